package feed

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/state"
)

const node = "node1"

// server is a control plane that can be killed and started again, and that
// sends whatever a test gives it, well-formed or not.
type server struct {
	t      *testing.T
	path   string
	caches map[string]*cache.LinearCache

	stop func()

	mu struct {
		sync.Mutex
		nacks    []string            // error texts
		versions []map[string]string // initial_resource_versions of each subscription to Service
	}
}

func newServer(t *testing.T) *server {
	s := &server{t: t, path: filepath.Join(t.TempDir(), "xds.sock")}
	s.reset()
	s.start()
	t.Cleanup(func() { s.kill() })
	return s
}

// reset forgets every resource, as a controller with another source would.
func (s *server) reset() {
	s.caches = make(map[string]*cache.LinearCache)
	for _, url := range xds.Types {
		s.caches[url] = cache.NewLinearCache(url)
	}
}

func (s *server) start() {
	s.t.Helper()
	listener, err := net.Listen("unix", s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	mux := &cache.MuxCache{
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        make(map[string]cache.Cache),
	}
	for url, c := range s.caches {
		mux.Caches[url] = c
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(g, ads{delta: delta.NewServer(ctx, mux, s)})
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(listener) })
	s.stop = func() {
		cancel()
		g.Stop()
		serving.Wait()
	}
}

// ads serves delta streams only, as the controller does.
type ads struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	delta delta.Server
}

func (a ads) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.delta.DeltaStreamHandler(stream, "")
}

func (s *server) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }
func (s *server) OnDeltaStreamClosed(int64, *core.Node)                  {}
func (s *server) OnStreamDeltaResponse(int64, *discovery.DeltaDiscoveryRequest, *discovery.DeltaDiscoveryResponse) {
}

func (s *server) OnStreamDeltaRequest(_ int64, r *discovery.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.ErrorDetail != nil {
		s.mu.nacks = append(s.mu.nacks, r.ErrorDetail.Message)
	}
	if r.ResponseNonce == "" && r.TypeUrl == xds.ServiceType {
		s.mu.versions = append(s.mu.versions, r.InitialResourceVersions)
	}
	return nil
}

// kill ends every stream without a word, as kill -9 does.
func (s *server) kill() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

func (s *server) set(url, name string, m types.Resource) {
	s.t.Helper()
	if err := s.caches[url].UpdateResource(name, m); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) remove(url, name string) {
	s.t.Helper()
	if err := s.caches[url].DeleteResource(name); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) nacks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mu.nacks...)
}

func (s *server) subscriptions() []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]map[string]string(nil), s.mu.versions...)
}

// service is a well-formed Service shop/NAME whose port 80 goes to cluster
// shop/NAME/80/tcp.
func service(name string, weight uint32) *xds.Service {
	return &xds.Service{
		Namespace: "shop", Name: name, Addresses: [][]byte{{10, 96, 0, 1}},
		Ports: []*xds.ServicePort{{Name: "http", Port: 80, Protocol: xds.Protocol_TCP,
			Clusters: []*xds.WeightedCluster{{Cluster: clusterName(name), Weight: weight, Backend: "shop/" + name + ":80"}}}},
	}
}

func clusterName(service string) string { return "shop/" + service + "/80/tcp" }

func cluster(service string, endpoints ...byte) *xds.Cluster {
	c := &xds.Cluster{Name: clusterName(service)}
	for _, last := range endpoints {
		c.Endpoints = append(c.Endpoints, &xds.Endpoint{Address: []byte{10, 0, 0, last}, Port: 8080, Health: xds.Health_READY, Node: node})
	}
	return c
}

func workload(name string, mesh bool) *xds.Workload {
	return &xds.Workload{Namespace: "shop", Name: name, Node: node, Addresses: [][]byte{{10, 0, 0, 9}}, Mesh: mesh}
}

// setShop fills the server with one of each.
func (s *server) setShop() {
	s.set(xds.NodeType, node, &xds.Node{Name: node, Zone: "z1"})
	s.set(xds.WorkloadType, "shop/web", workload("web", true))
	s.set(xds.ClusterType, clusterName("cart"), cluster("cart", 1, 2))
	s.set(xds.ServiceType, "shop/cart", service("cart", 1))
}

// client is a running feed.
type client struct {
	*Feed
	t    *testing.T
	last Update
	stop func() // ends it and waits
}

func run(t *testing.T, o Options) *client {
	t.Helper()
	o.Node = node
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	c := &client{Feed: f, t: t, stop: func() { cancel(); running.Wait() }}
	t.Cleanup(c.stop)
	return c
}

func (s *server) client(t *testing.T) *client { return run(t, Options{Server: "unix://" + s.path}) }

// until reads updates until ok accepts one.
func (c *client) until(what string, ok func(*state.Snapshot) bool) Update {
	c.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case c.last = <-c.Updates():
			if ok(c.last.Snapshot) {
				return c.last
			}
		case <-deadline:
			c.t.Fatalf("no snapshot with %s within 10s; last %+v, status %+v", what, c.last.Snapshot, c.Status())
		}
	}
}

// eventually waits for a condition that is not in a snapshot.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within 10s: %s", what)
}

func hasWeight(name string, weight uint32) (string, func(*state.Snapshot) bool) {
	return fmt.Sprintf("weight %d at %s", weight, name), func(s *state.Snapshot) bool {
		svc, ok := s.Services["shop/"+name]
		return ok && svc.Ports[0].Clusters[0].Weight == weight
	}
}

func problemReasons(list []admin.Problem) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Object+" "+p.Reason)
	}
	return out
}
