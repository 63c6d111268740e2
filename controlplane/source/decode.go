package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"heddle.io/heddle/api/v1alpha1"
	"heddle.io/heddle/controlplane/model"
)

// Bounds of what is read.
const (
	maxObjectSize = 1 << 20  // bytes of one object as JSON, aliases expanded
	maxFileSize   = 16 << 20 // bytes
	maxObjects    = 100_000  // of all files
	maxFiles      = 10_000
	maxProblems   = 1000
)

// A document is the place of one object in a file.
type document struct {
	id    id
	where string // "document 3 (line 41)"
	// object, or why there is none.
	object *object
	reason string
	err    error
}

// decode reads the contents of a file. An error means that it cannot be told
// which objects the file holds; what is wrong with a single object is in its
// document. Objects of before whose text did not change are taken over as they
// are.
func decode(data []byte, before map[id]*object) ([]document, error) {
	var out []document
	for n, part := range split(data) {
		where := fmt.Sprintf("document %d (line %d)", n+1, part.line)
		object, err := toJSON(part.text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, absolute(err, part.line))
		}
		documents, err := decodeDocument(object, where, before)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if out = append(out, documents...); len(out) > maxObjects {
			return nil, fmt.Errorf("more than %d objects; split them over several files and clusters", maxObjects)
		}
	}
	return out, nil
}

// A part is one document of a YAML file.
type part struct {
	text []byte
	line int // of its first line, from 1
}

// split cuts a file at the lines that separate YAML documents, leaving out parts
// with nothing in them. A separator may carry the beginning of the document.
func split(data []byte) []part {
	var out []part
	current := part{line: 1}
	end := func() {
		if meaningful(current.text) {
			out = append(out, current)
		}
	}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := bytes.TrimRight(line, " \t\r\n")
		switch {
		case bytes.Equal(text, []byte("---")), bytes.Equal(text, []byte("...")):
			end()
			current = part{line: number + 1}
		case bytes.HasPrefix(line, []byte("--- ")), bytes.HasPrefix(line, []byte("---\t")):
			end()
			current = part{text: append([]byte("   "), line[3:]...), line: number}
		default:
			current.text = append(current.text, line...)
		}
	}
	end()
	return out
}

// meaningful reports whether there is anything but comments and space.
func meaningful(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return true
		}
	}
	return false
}

// toJSON turns a document into JSON. YAML that repeats a key is refused: which of
// the two would count is anybody's guess.
func toJSON(text []byte) ([]byte, error) {
	if trimmed := bytes.TrimSpace(text); trimmed[0] == '{' && json.Valid(trimmed) {
		return trimmed, nil
	}
	return yaml.YAMLToJSONStrict(text)
}

var yamlLine = regexp.MustCompile(`\bline (\d+)`)

// absolute counts the lines in a YAML error from the start of the file.
func absolute(err error, first int) error {
	return errors.New(yamlLine.ReplaceAllStringFunc(err.Error(), func(s string) string {
		n, convErr := strconv.Atoi(strings.TrimPrefix(s, "line "))
		if convErr != nil {
			return s
		}
		return fmt.Sprintf("line %d", n+first-1)
	}))
}

// header is what every object has.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// decodeDocument reads an object, or those of a List.
func decodeDocument(data []byte, where string, before map[id]*object) ([]document, error) {
	h, err := decodeHeader(data)
	if err != nil {
		return nil, err
	}
	if h.Kind != "List" || h.APIVersion != "v1" {
		d, err := decodeObject(h, data, where, before)
		return []document{d}, err
	}
	var out []document
	for n, item := range h.Items {
		where := fmt.Sprintf("%s, item %d", where, n+1)
		h, err := decodeHeader(item)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", n+1, err)
		}
		d, err := decodeObject(h, item, where, before)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", n+1, err)
		}
		out = append(out, d)
	}
	return out, nil
}

func decodeHeader(data []byte) (header, error) {
	var h header
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &h); err != nil {
		return h, fmt.Errorf("not a Kubernetes object: %w", err)
	}
	if h.APIVersion == "" || h.Kind == "" {
		return h, errors.New("not a Kubernetes object: apiVersion and kind are required")
	}
	return h, nil
}

// A reader turns the JSON of an object into a model object. It reports every
// violation that it finds.
type reader struct {
	versions   []string
	namespaced bool
	read       func(data []byte) (*object, error)
}

var readers = map[string]reader{
	namespaceKind: {[]string{"v1"}, false, fromText(convertNamespace)},
	nodeKind:      {[]string{"v1"}, false, fromText(convertNode)},
	podKind:       {[]string{"v1"}, true, fromText(convertPod)},
	serviceKind:   {[]string{"v1"}, true, fromText(convertService)},
	sliceKind:     {[]string{"discovery.k8s.io/v1"}, true, fromText(convertSlice)},
	tcpRouteKind:  {gatewayVersions("v1", "v1alpha2"), true, fromText(convertTCPRoute)},
	tlsRouteKind:  {gatewayVersions("v1", "v1alpha3", "v1alpha2"), true, fromText(convertTLSRoute)},
	httpRouteKind: {gatewayVersions("v1", "v1beta1"), true, fromText(convertHTTPRoute)},
	grpcRouteKind: {gatewayVersions("v1"), true, fromText(convertGRPCRoute)},
	grantKind:     {gatewayVersions("v1", "v1beta1"), true, fromText(convertGrant)},
	meshKind:      {[]string{v1alpha1.GroupVersion.String()}, false, fromText(convertMeshConfig)},
	policyKind:    {[]string{v1alpha1.GroupVersion.String()}, true, fromText(convertPolicy)},
	externalKind:  {[]string{v1alpha1.GroupVersion.String()}, true, fromText(convertExternal)},
}

const readKinds = "Namespace, Node, Pod, Service, EndpointSlice, TCPRoute, TLSRoute, HTTPRoute, GRPCRoute, ReferenceGrant, MeshConfig, TrafficPolicy and ExternalService are read"

func gatewayVersions(versions ...string) []string {
	for i, v := range versions {
		versions[i] = gatewayv1.GroupName + "/" + v
	}
	return versions
}

// fromText reads what a conversion takes from JSON.
func fromText[T any](convert func(*T) (*object, error)) func([]byte) (*object, error) {
	return func(data []byte) (*object, error) {
		in := new(T)
		if err := strict(data, in); err != nil {
			return nil, err
		}
		return convert(in)
	}
}

// decodeObject reads one object. An error means that it has no name.
func decodeObject(h header, data []byte, where string, before map[id]*object) (document, error) {
	r, known := readers[h.Kind]
	if !known || !slices.Contains(r.versions, h.APIVersion) {
		return document{
			id:     id{printable(h.Kind), model.Key{Name: printable(h.Metadata.Name)}},
			where:  where,
			reason: "UnknownKind",
			err: fmt.Errorf("apiVersion %s, kind %s is not used by Heddle; %s: take it out of this directory, or correct apiVersion and kind",
				printable(h.APIVersion), printable(h.Kind), readKinds),
		}, nil
	}
	i := id{h.Kind, key(h.Metadata.Namespace, h.Metadata.Name)}
	if !r.namespaced {
		i.Key.Namespace = ""
	}
	if i.Key.Name == "" {
		return document{}, fmt.Errorf("a %s without metadata.name", h.Kind)
	}
	d := document{id: i, where: where}
	if err := checkID(i); err != nil {
		d.id.Key = model.Key{Name: printable(i.Key.String())}
		d.reason, d.err = "Invalid", err
		return d, nil
	}
	if len(data) > maxObjectSize {
		d.reason = "ObjectTooLarge"
		d.err = fmt.Errorf("it has %d bytes as JSON, the limit is %d", len(data), maxObjectSize)
		return d, nil
	}
	sum := sha256.Sum256(data)
	if o := before[i]; o != nil && o.sum == sum {
		d.object = o
		return d, nil
	}
	o, err := r.read(data)
	if err != nil {
		d.reason, d.err = "Invalid", err
		return d, nil
	}
	o.sum = sum
	d.object = o
	return d, nil
}

// strict decodes JSON the way the API server does with strict validation: names
// of fields as they are written, none twice, none unknown.
func strict(data []byte, into any) error {
	mistakes, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return err
	}
	return errors.Join(mistakes...)
}
