package feedtest

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"

	"heddle.io/heddle/api/xds"
)

// Server is a control plane that can be killed and started again, and that
// sends whatever a test gives it, well-formed or not.
type Server struct {
	t      testing.TB
	path   string
	caches map[string]*cache.LinearCache

	stop func()

	mu struct {
		sync.Mutex
		nacks    []string            // error texts
		versions []map[string]string // initial_resource_versions of each subscription to Service
	}
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	s := &Server{t: t, path: filepath.Join(t.TempDir(), "xds.sock")}
	s.caches = make(map[string]*cache.LinearCache)
	for _, url := range xds.Types {
		s.caches[url] = cache.NewLinearCache(url)
	}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// Address is what a feed takes as its server.
func (s *Server) Address() string { return "unix://" + s.path }

// Start listens again after Kill, with the same resources.
func (s *Server) Start() {
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

// OnDeltaStreamOpen implements delta.Callbacks.
func (s *Server) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }

// OnDeltaStreamClosed implements delta.Callbacks.
func (s *Server) OnDeltaStreamClosed(int64, *core.Node) {}

// OnStreamDeltaResponse implements delta.Callbacks.
func (s *Server) OnStreamDeltaResponse(int64, *discovery.DeltaDiscoveryRequest, *discovery.DeltaDiscoveryResponse) {
}

// OnStreamDeltaRequest implements delta.Callbacks.
func (s *Server) OnStreamDeltaRequest(_ int64, r *discovery.DeltaDiscoveryRequest) error {
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

// Kill ends every stream without a word, as kill -9 does.
func (s *Server) Kill() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Set adds or replaces a resource, well-formed or not.
func (s *Server) Set(url, name string, m types.Resource) {
	s.t.Helper()
	if err := s.caches[url].UpdateResource(name, m); err != nil {
		s.t.Fatal(err)
	}
}

// Remove removes a resource.
func (s *Server) Remove(url, name string) {
	s.t.Helper()
	if err := s.caches[url].DeleteResource(name); err != nil {
		s.t.Fatal(err)
	}
}

// Nacks are the errors that clients answered with.
func (s *Server) Nacks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mu.nacks...)
}

// Subscriptions are the versions that clients said they have of Services, one
// map for each stream.
func (s *Server) Subscriptions() []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]map[string]string(nil), s.mu.versions...)
}
