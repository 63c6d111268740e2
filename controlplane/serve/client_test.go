package serve_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/serve"
	"heddle.io/heddle/controlplane/translate"
)

// patience is how long a test waits for what must happen; quiet, for what must
// not.
const (
	patience = time.Minute
	quiet    = 100 * time.Millisecond
)

// controller is a server that can stop and start again.
type controller struct {
	*serve.Server
	t          *testing.T
	path       string
	maxStreams int
	stop       func()
}

func start(t *testing.T) *controller { return startBounded(t, 0) }

func startBounded(t *testing.T, maxStreams int) *controller {
	c := &controller{t: t, path: filepath.Join(t.TempDir(), "xds.sock"), maxStreams: maxStreams}
	c.start()
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *controller) start() {
	c.t.Helper()
	listener, err := net.Listen("unix", c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := grpc.NewServer(serve.GRPCOptions()...)
	c.Server = serve.New(ctx, c.maxStreams)
	c.Register(g)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(listener) }()
	c.stop = func() { cancel(); g.Stop(); <-done }
}

// restart is a controller that dies and comes back with nothing but r.
func (c *controller) restart(r *translate.Result) {
	c.stop()
	c.start()
	c.set(r)
}

func (c *controller) set(r *translate.Result) {
	c.t.Helper()
	if err := c.Set(r); err != nil {
		c.t.Fatal(err)
	}
}

func (c *controller) dial() *grpc.ClientConn {
	c.t.Helper()
	conn, err := grpc.NewClient("unix://"+c.path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// node is one node's stream. It acknowledges what it receives, unless it refuses.
type node struct {
	t      *testing.T
	name   string
	stream grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]
	close  func()
	has    map[string]map[string]string // type URL -> name -> version
	got    chan *discovery.DeltaDiscoveryResponse
	ended  chan error
	refuse func(*discovery.DeltaDiscoveryResponse) string
	bad    string // what a refusal names
	code   codes.Code
}

// connect opens a stream and subscribes to every type. has is what the node has
// from earlier.
func (c *controller) connect(conn *grpc.ClientConn, name string, has map[string]map[string]string) *node {
	c.t.Helper()
	n := c.open(conn, name)
	if has != nil {
		n.has = has
	}
	n.subscribe()
	return n
}

func (n *node) subscribe() {
	n.t.Helper()
	for _, typeURL := range xds.Types {
		n.send(&discovery.DeltaDiscoveryRequest{
			Node: &core.Node{Id: n.name}, TypeUrl: typeURL,
			ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: n.has[typeURL],
		})
	}
	go n.receive()
}

// open opens a stream and says nothing.
func (c *controller) open(conn *grpc.ClientConn, name string) *node {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return &node{
		t: c.t, name: name, stream: stream, close: cancel, has: make(map[string]map[string]string),
		got: make(chan *discovery.DeltaDiscoveryResponse, 100), ended: make(chan error, 1),
		code: codes.InvalidArgument,
	}
}

func (n *node) send(r *discovery.DeltaDiscoveryRequest) {
	n.t.Helper()
	if err := n.stream.Send(r); err != nil {
		n.t.Fatalf("node %s: %v", n.name, err)
	}
}

func (n *node) receive() {
	for {
		response, err := n.stream.Recv()
		if err != nil {
			n.ended <- err
			return
		}
		answer := &discovery.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}
		if n.refuse != nil {
			if why := n.refuse(response); why != "" {
				answer.ErrorDetail = n.refusal(why)
			}
		}
		if n.stream.Send(answer) != nil {
			continue // Recv has the cause
		}
		n.got <- response
	}
}

func (n *node) refusal(why string) *rpcstatus.Status {
	s := &rpcstatus.Status{Code: int32(n.code), Message: why}
	if n.bad != "" {
		detail, err := anypb.New(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: n.bad}}})
		if err != nil {
			n.t.Error(err)
		}
		s.Details = append(s.Details, detail)
	}
	return s
}

// await waits for the next response and returns it as text, "Type +name -name".
func (n *node) await() string {
	n.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case r := <-n.got:
		return n.take(r)
	case err := <-n.ended:
		n.t.Fatalf("node %s: the stream ended: %v", n.name, err)
	case <-timeout.C:
		n.t.Fatalf("node %s got nothing", n.name)
	}
	return ""
}

func (n *node) take(r *discovery.DeltaDiscoveryResponse) string {
	if n.has[r.TypeUrl] == nil {
		n.has[r.TypeUrl] = make(map[string]string)
	}
	out := []string{r.TypeUrl[strings.LastIndexByte(r.TypeUrl, '.')+1:]}
	for _, resource := range r.Resources {
		n.has[r.TypeUrl][resource.Name] = resource.Version
		out = append(out, "+"+resource.Name)
	}
	for _, name := range r.RemovedResources {
		delete(n.has[r.TypeUrl], name)
		out = append(out, "-"+name)
	}
	return strings.Join(out, " ")
}

// expect waits for these responses, in any order.
func (n *node) expect(want ...string) {
	n.t.Helper()
	var got []string
	for range want {
		got = append(got, n.await())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		n.t.Fatalf("node %s got %q, want %q", n.name, got, want)
	}
}

// silent checks that nothing comes.
func (n *node) silent() {
	n.t.Helper()
	timeout := time.NewTimer(quiet)
	defer timeout.Stop()
	select {
	case r := <-n.got:
		n.t.Fatalf("node %s got %s", n.name, n.take(r))
	case err := <-n.ended:
		n.t.Fatalf("node %s: the stream ended: %v", n.name, err)
	case <-timeout.C:
	}
}

// result makes a result of resources "type name content audience…", and of nodes
// "name: audience…".
func result(lines ...string) *translate.Result {
	r := &translate.Result{Audiences: make(map[string][]string)}
	for _, line := range lines {
		if name, audiences, isNode := strings.Cut(line, ": "); isNode {
			r.Audiences[name] = append(strings.Fields(audiences), "node:"+name)
			slices.Sort(r.Audiences[name])
			continue
		}
		f := strings.Fields(line)
		resource := translate.Resource{Name: f[1], Audiences: f[3:]}
		switch f[0] {
		case "service":
			resource.Type, resource.Message = xds.ServiceType, &xds.Service{Name: f[1], Namespace: f[2]}
		case "cluster":
			resource.Type, resource.Message = xds.ClusterType, &xds.Cluster{Name: f[1] + f[2]}
		case "workload":
			resource.Type, resource.Message = xds.WorkloadType, &xds.Workload{Name: f[1], Namespace: f[2]}
		case "node":
			resource.Type, resource.Message = xds.NodeType, &xds.Node{Name: f[1], Zone: f[2]}
		default:
			panic(fmt.Sprint("unknown kind ", f[0]))
		}
		r.Resources = append(r.Resources, resource)
	}
	return r
}
