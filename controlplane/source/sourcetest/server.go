package sourcetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Server is an API server.
type Server struct {
	t    *testing.T
	http *httptest.Server

	mu       sync.Mutex
	objects  map[string]map[string]any // path of the object -> object
	events   []event                   // all that happened; its number is the resource version
	more     chan struct{}             // closed when something happens
	refusing int                       // status that all requests get; 0: they are served
}

// An event is a change of an object.
type event struct {
	kind   string // ADDED, MODIFIED or DELETED
	list   string // path of its resource
	object map[string]any
}

// resources are the plural names of the kinds, with their groups.
var resources = map[string]string{
	"Namespace":                "/api/v1/namespaces",
	"Node":                     "/api/v1/nodes",
	"Pod":                      "/api/v1/pods",
	"Service":                  "/api/v1/services",
	"EndpointSlice":            "/apis/discovery.k8s.io/v1/endpointslices",
	"CustomResourceDefinition": definitions,
	"TCPRoute":                 gateway + "tcproutes",
	"TLSRoute":                 gateway + "tlsroutes",
	"HTTPRoute":                gateway + "httproutes",
	"GRPCRoute":                gateway + "grpcroutes",
	"ReferenceGrant":           gateway + "referencegrants",
	"MeshConfig":               heddle + "meshconfigs",
	"TrafficPolicy":            heddle + "trafficpolicies",
	"ExternalService":          heddle + "externalservices",
}

const (
	definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	gateway     = "/apis/gateway.networking.k8s.io/v1/"
	heddle      = "/apis/policy.heddle.io/v1alpha1/"
)

// Start returns a server without objects, which ends with the test.
func Start(t *testing.T) *Server {
	s := &Server{t: t, objects: make(map[string]map[string]any), more: make(chan struct{})}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() { s.http.CloseClientConnections(); s.http.Close() })
	return s
}

// Config is how to reach it.
func (s *Server) Config() *rest.Config { return &rest.Config{Host: s.http.URL, QPS: 1000, Burst: 1000} }

// Install puts in the definitions of kinds; none: of all that have one.
func (s *Server) Install(kinds ...string) {
	if len(kinds) == 0 {
		for kind, path := range resources {
			if strings.HasPrefix(path, gateway) || strings.HasPrefix(path, heddle) {
				kinds = append(kinds, kind)
			}
		}
	}
	for _, kind := range kinds {
		s.Put(definition(kind))
	}
}

// Uninstall takes the definition of a kind away, and its objects.
func (s *Server) Uninstall(kind string) {
	s.mu.Lock()
	for path, o := range s.objects {
		if o["kind"] == kind {
			s.happen("DELETED", path, o)
			delete(s.objects, path)
		}
	}
	s.mu.Unlock()
	s.Remove(definition(kind))
}

func definition(kind string) string {
	parts := strings.Split(resources[kind], "/") // "", apis, group, version, resource
	return fmt.Sprintf(`{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: %s.%s},
  spec: {versions: [{name: %s, served: true}]}, status: {conditions: [{type: Established, status: "True"}]}}`, parts[4], parts[2], parts[3])
}

// Put makes the objects of YAML documents, or changes them.
func (s *Server) Put(documents string) {
	s.t.Helper()
	s.each(documents, func(path string, o map[string]any) {
		kind := "ADDED"
		if s.objects[path] != nil {
			kind = "MODIFIED"
		}
		s.objects[path] = o
		s.happen(kind, path, o)
	})
}

// Remove deletes them.
func (s *Server) Remove(documents string) {
	s.t.Helper()
	s.each(documents, func(path string, o map[string]any) {
		delete(s.objects, path)
		s.happen("DELETED", path, o)
	})
}

func (s *Server) each(documents string, do func(string, map[string]any)) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range strings.Split(documents, "\n---") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			s.t.Fatalf("%v in\n%s", err, text)
		}
		if o == nil {
			continue
		}
		kind, _ := o["kind"].(string)
		if resources[kind] == "" {
			s.t.Fatalf("there is no kind %q", kind)
		}
		metadata := o["metadata"].(map[string]any)
		if metadata["namespace"] == nil && !cluster[kind] {
			metadata["namespace"] = "default"
		}
		do(fmt.Sprintf("%s/%v/%v", resources[kind], metadata["namespace"], metadata["name"]), o)
	}
}

var cluster = map[string]bool{"Namespace": true, "Node": true, "CustomResourceDefinition": true, "MeshConfig": true}

func (s *Server) happen(kind, path string, o map[string]any) {
	o["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(len(s.events) + 1)
	s.events = append(s.events, event{kind, resources[o["kind"].(string)], o})
	close(s.more)
	s.more = make(chan struct{})
}

// Refuse makes all requests fail with an HTTP status, and ends the streams; 0
// serves them again.
func (s *Server) Refuse(status int) {
	s.mu.Lock()
	s.refusing = status
	close(s.more)
	s.more = make(chan struct{})
	s.mu.Unlock()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	s.mu.Lock()
	refusing := s.refusing
	s.mu.Unlock()
	switch {
	case refusing != 0:
		fail(w, refusing)
	case query.Get("sendInitialEvents") != "": // lists, then watches, as with older servers
		fail(w, http.StatusUnprocessableEntity)
	case strings.HasPrefix(r.URL.Path, definitions+"/"):
		s.get(w, r)
	case !s.installed(r.URL.Path):
		fail(w, http.StatusNotFound)
	case query.Get("watch") != "":
		s.watch(w, r)
	default:
		s.list(w, r)
	}
}

// installed reports whether the resource of a path is there.
func (s *Server) installed(path string) bool {
	if !strings.HasPrefix(path, gateway) && !strings.HasPrefix(path, heddle) {
		return true
	}
	parts := strings.Split(path, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[fmt.Sprintf("%s/<nil>/%s.%s", definitions, parts[4], parts[2])] != nil
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	o := s.objects[strings.Replace(r.URL.Path, definitions+"/", definitions+"/<nil>/", 1)]
	s.mu.Unlock()
	if o == nil {
		fail(w, http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(o)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []map[string]any{}
	apiVersion, kind := "v1", "List"
	for path, o := range s.objects {
		if strings.HasPrefix(path, r.URL.Path+"/") && selected(r, o) {
			items = append(items, form(r, o))
			apiVersion, kind = o["apiVersion"].(string), o["kind"].(string)+"List"
		}
	}
	if ofMetadata(r) {
		apiVersion, kind = "meta.k8s.io/v1", "PartialObjectMetadataList"
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": apiVersion, "kind": kind, "items": items,
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(len(s.events))},
	})
}

// watch streams what happens after a resource version, until the client goes or
// the server refuses.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	next, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	encoder := json.NewEncoder(w)
	for {
		_ = http.NewResponseController(w).Flush()
		s.mu.Lock()
		for ; next < len(s.events); next++ {
			if e := s.events[next]; e.list == r.URL.Path {
				kind := e.kind
				if !selected(r, e.object) {
					kind = "DELETED"
				}
				_ = encoder.Encode(map[string]any{"type": kind, "object": form(r, e.object)})
			}
		}
		more, refusing := s.more, s.refusing
		s.mu.Unlock()
		if refusing != 0 {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-more:
		}
	}
}

// selected knows one field selector, that of pods which did not end.
func selected(r *http.Request, o map[string]any) bool {
	status, _ := o["status"].(map[string]any)
	phase := fmt.Sprint(status["phase"])
	return !strings.Contains(r.URL.Query().Get("fieldSelector"), "status.phase!="+phase)
}

func ofMetadata(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata")
}

// form is the object, or its metadata when that is what the client wants.
func form(r *http.Request, o map[string]any) map[string]any {
	if ofMetadata(r) {
		return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": o["metadata"]}
	}
	return o
}

func fail(w http.ResponseWriter, status int) {
	reason := map[int]string{http.StatusForbidden: "Forbidden", http.StatusNotFound: "NotFound", http.StatusUnprocessableEntity: "Invalid"}[status]
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": "the test wants it",
	})
}
