package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/e2e/cluster"
)

const (
	agentAccount = "heddle-agent"
	controllerIP = "127.0.0.1"
	xdsPort      = "15010"
	serverName   = "heddle-controller." + system + ".svc"
	maxResponse  = 64 << 20 // what a real agent takes
)

func agentPod(node string) string { return "heddle-agent-" + node }

// fleet is one simulated agent for each node. They connect as real ones do: TLS
// against the published authority, and a token bound to the agent's pod.
type fleet struct {
	cluster *cluster.Cluster
	ctx     context.Context
	end     context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	agents []*agent
	waits  map[string]*arrival // by the name of a cluster resource
	failed error
	synced chan struct{} // closed when every agent has an answer of every type
}

// agent is what one of them received.
type agent struct {
	node string
	received
	types map[string]bool
}

// received counts what came over a stream.
type received struct {
	responses, resources, bytes uint64
}

func (r received) minus(o received) received {
	return received{r.responses - o.responses, r.resources - o.resources, r.bytes - o.bytes}
}

// arrival waits until agents have acknowledged a resource.
type arrival struct {
	missing int
	last    time.Time
	done    chan struct{}
}

func newFleet(c *cluster.Cluster) *fleet {
	ctx, end := context.WithCancel(context.Background())
	return &fleet{cluster: c, ctx: ctx, end: end, waits: make(map[string]*arrival), synced: make(chan struct{})}
}

// stop ends all streams.
func (f *fleet) stop() {
	f.end()
	f.running.Wait()
}

// tokens asks for the token of each agent, as the kubelet does for a projected
// volume.
func (w *world) tokens(ctx context.Context) ([]string, error) {
	tokens := make([]string, w.Nodes)
	lifetime := int64(3600)
	var all errgroup.Group
	all.SetLimit(parallel)
	for n := range tokens {
		all.Go(func() error {
			pod, err := w.api.CoreV1().Pods(system).Get(ctx, agentPod(nodeName(n)), metav1.GetOptions{})
			if err != nil {
				return err
			}
			request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
				Audiences: []string{"heddle"}, ExpirationSeconds: &lifetime,
				BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
			}}
			made, err := w.api.CoreV1().ServiceAccounts(system).CreateToken(ctx, agentAccount, request, metav1.CreateOptions{})
			if err == nil {
				tokens[n] = made.Status.Token
			}
			return err
		})
	}
	return tokens, all.Wait()
}

// connect opens the streams of all agents, and returns when each has an answer of
// every type.
func (f *fleet) connect(ctx context.Context, tokens []string, roots *x509.CertPool) error {
	for n := range tokens {
		f.agents = append(f.agents, &agent{node: nodeName(n), types: make(map[string]bool)})
	}
	for n, token := range tokens {
		options := []grpc.DialOption{
			grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, serverName)),
			grpc.WithPerRPCCredentials(bearer(token)),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
			grpc.WithContextDialer(f.dialer(n)),
		}
		conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(controllerIP, xdsPort), options...)
		if err != nil {
			return err
		}
		f.running.Go(func() {
			defer conn.Close()
			if err := f.follow(conn, f.agents[n]); f.ctx.Err() == nil {
				f.fail(fmt.Errorf("the stream of %s: %w", f.agents[n].node, err))
			}
		})
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.synced:
		return f.failure()
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("not every agent was served within %s; see the controller's log", patience), f.failure())
	}
}

// dialer connects from an address of the node's own: the controller has a budget
// for each address.
func (f *fleet) dialer(n int) func(context.Context, string) (net.Conn, error) {
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(n/250), byte(n%250+1))}}
	return func(ctx context.Context, address string) (net.Conn, error) {
		return f.cluster.DialBy(ctx, from, "tcp", address)
	}
}

// bearer is a token as a credential.
type bearer string

// GetRequestMetadata and RequireTransportSecurity implement
// credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// follow subscribes to everything and acknowledges what comes, until the stream
// ends.
func (f *fleet) follow(conn *grpc.ClientConn, a *agent) error {
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(f.ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for _, typeURL := range xds.Types {
		request := &discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: a.node}, TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}}
		if stream.Send(request) != nil {
			break // Recv has the cause
		}
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}) == nil {
			f.note(a, response)
		}
	}
}

// note counts a response that was acknowledged.
func (f *fleet) note(a *agent, r *discovery.DeltaDiscoveryResponse) {
	now, size := time.Now(), uint64(proto.Size(r))
	f.mu.Lock()
	defer f.mu.Unlock()
	a.responses++
	a.bytes += size
	a.resources += uint64(len(r.Resources) + len(r.RemovedResources))
	if !a.types[r.TypeUrl] {
		a.types[r.TypeUrl] = true
		f.checkSyncedLocked()
	}
	if r.TypeUrl != xds.ClusterType {
		return
	}
	for _, resource := range r.Resources {
		if w := f.waits[resource.Name]; w != nil {
			w.last = now
			if w.missing--; w.missing == 0 {
				delete(f.waits, resource.Name)
				close(w.done)
			}
		}
	}
}

func (f *fleet) checkSyncedLocked() {
	for _, a := range f.agents {
		if len(a.types) < len(xds.Types) {
			return
		}
	}
	close(f.synced)
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = errors.Join(f.failed, err)
}

func (f *fleet) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// expect returns what waits for the next acknowledgement of a resource by so many
// agents.
func (f *fleet) expect(resource string, agents int) *arrival {
	w := &arrival{missing: agents, done: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waits[resource] = w
	return w
}

// counts is what each agent has received so far.
func (f *fleet) counts() []received {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]received, len(f.agents))
	for i, a := range f.agents {
		out[i] = a.received
	}
	return out
}
