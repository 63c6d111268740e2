package manifests

import (
	"bufio"
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"heddle.io/heddle/api/crd"
)

//go:embed base/*.yaml
var base embed.FS

// gateway are the CRDs of Gateway API that Heddle reads, as its release
// GatewayVersion has them in the standard channel. Their licence is beside them.
//
//go:embed gateway/*.yaml
var gateway embed.FS

// GatewayVersion is the release of Gateway API whose CRDs are here.
const GatewayVersion = "v1.6.3"

// order is that of the files of the base: what others need comes first. The
// controller publishes what agents mount.
var order = []string{
	"namespace.yaml", "controller-rbac.yaml", "agent-rbac.yaml", "network.yaml", "controller.yaml", "agent.yaml",
}

// CRDs are the definitions of Heddle's own kinds.
func CRDs() ([]*unstructured.Unstructured, error) { return readAll(crd.Files, ".") }

// GatewayCRDs are the definitions of the kinds of Gateway API that Heddle reads.
func GatewayCRDs() ([]*unstructured.Unstructured, error) { return readAll(gateway, "gateway") }

func readBase() ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, name := range order {
		some, err := read(base, "base/"+name)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func readAll(files fs.FS, dir string) ([]*unstructured.Unstructured, error) {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, e := range entries {
		some, err := read(files, strings.TrimPrefix(dir+"/"+e.Name(), "./"))
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func read(files fs.FS, name string) ([]*unstructured.Unstructured, error) {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	objects, err := Decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return objects, nil
}

// Decode reads the objects of a YAML stream.
func Decode(text []byte) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	documents := yamlstream.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(document, &object.Object); err != nil {
			return nil, err
		}
		if len(object.Object) > 0 { // else only comments
			all = append(all, normal(object))
		}
	}
}

// normal has numbers as every other reader of unstructured objects has them.
func normal(o *unstructured.Unstructured) *unstructured.Unstructured {
	text, err := o.MarshalJSON()
	if err == nil {
		err = o.UnmarshalJSON(text)
	}
	if err != nil {
		return &unstructured.Unstructured{Object: o.Object}
	}
	return o
}

// Encode writes objects as a YAML stream.
func Encode(objects []*unstructured.Unstructured) ([]byte, error) {
	var out bytes.Buffer
	for i, o := range objects {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", Name(o), err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

// Name is an object as people say it: "Deployment heddle-system/heddle-controller".
func Name(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// Sorted is objects by name, for comparing.
func Sorted(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	return slices.SortedFunc(slices.Values(objects), func(a, b *unstructured.Unstructured) int {
		return strings.Compare(Name(a), Name(b))
	})
}
