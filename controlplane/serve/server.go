package serve

import (
	"context"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"heddle.io/heddle/controlplane/translate"
)

// DefaultMaxStreams is more nodes than Kubernetes supports in a cluster, twice:
// while they reconnect, the old stream and the new one are there.
const DefaultMaxStreams = 10_000

// maxRequest bounds one request. The first one of a stream lists the versions of
// all resources that the node has.
const maxRequest = 32 << 20

// A connection ends after maxAge, give or take a tenth, and its node connects again,
// perhaps to another replica: after a rollout all nodes are at the replica that was
// ready first. That costs little, because a node says what it has. The stream is not
// drained by itself, so ageGrace is short.
const (
	maxAge   = 30 * time.Minute
	ageGrace = time.Second
)

// Server serves resources. Its methods may be called from any goroutine.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	resources *resources
	sessions  *sessions
	delta     delta.Server
}

// New returns a server that has no resources yet: until the first Set, nodes can
// connect and are told nothing, so they keep what they have. Streams end when ctx
// does. maxStreams 0 is DefaultMaxStreams.
func New(ctx context.Context, maxStreams int) *Server {
	if maxStreams == 0 {
		maxStreams = DefaultMaxStreams
	}
	r := newResources()
	s := newSessions(r, maxStreams)
	return &Server{resources: r, sessions: s, delta: delta.NewServer(ctx, r, s)}
}

// GRPCOptions are the bounds that the gRPC server below has to keep.
func GRPCOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(16), // of one connection; a node needs one
		grpc.ConnectionTimeout(10 * time.Second),
		// A node that is gone without a word, or hangs, is found by pings.
		// Connections without a stream are closed.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 20 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: time.Minute,
			MaxConnectionAge: maxAge, MaxConnectionAgeGrace: ageGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}

// Register adds the server to a gRPC server.
func (s *Server) Register(g *grpc.Server) {
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// DeltaAggregatedResources is the stream of one node. The other methods of the
// discovery service are not implemented: nodes speak the delta protocol.
func (s *Server) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.delta.DeltaStreamHandler(stream, "")
}

// Set serves a result in place of the one before. Nodes that the change concerns
// are told at once.
func (s *Server) Set(r *translate.Result) error { return s.resources.set(r) }

// Nodes returns the connected nodes, by name.
func (s *Server) Nodes() []Node { return s.sessions.nodes() }

// Totals are counters since the start.
type Totals struct {
	Batches uint64 // calls of Set
	Encoded uint64 // resources encoded; each once, however many nodes get it
	Sent    uint64 // resources sent
	Acks    uint64 // responses that nodes took
	Nacks   uint64 // responses that nodes refused, wholly or in part
}

// Totals returns the counters.
func (s *Server) Totals() Totals {
	return Totals{
		Batches: s.resources.batches.Load(),
		Encoded: s.resources.encoded.Load(),
		Sent:    s.sessions.sent.Load(),
		Acks:    s.sessions.acks.Load(),
		Nacks:   s.sessions.nacks.Load(),
	}
}
