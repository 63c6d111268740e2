package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"heddle.io/heddle/api/xds"
)

// Reconnecting starts fast, because a controller that was killed is back in
// milliseconds, and is bounded, so that a fleet does not hammer one that is not.
const (
	firstDelay = 20 * time.Millisecond
	lastDelay  = 2 * time.Second
)

// maxResponse bounds one response. The first one of a type holds everything.
const maxResponse = 64 << 20

// target returns the gRPC target of o.Server.
func target(o Options) (string, error) {
	if name, ok := strings.CutPrefix(o.Server, "endpoints:"); ok {
		return endpointsTarget(o, name)
	}
	if path, ok := strings.CutPrefix(o.Server, "unix://"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", fmt.Errorf("server %q: the path of the unix socket must be absolute, as in unix:///run/heddle/xds.sock", o.Server)
		}
		return o.Server, nil
	}
	host, _, err := net.SplitHostPort(o.Server)
	if err != nil || host == "" {
		return "", fmt.Errorf("server %q is neither unix:///path nor host:port", o.Server)
	}
	if o.TLS == nil && !loopback(host) {
		return "", fmt.Errorf("server %q is not on this machine and there is no TLS: give the --tls-* flags, or use a unix socket", o.Server)
	}
	return "dns:///" + o.Server, nil
}

// endpointsTarget is for a server that is found by the endpoints of its Service.
func endpointsTarget(o Options, name string) (string, error) {
	service, port, found := strings.Cut(name, ":")
	namespace, service, slash := strings.Cut(service, "/")
	switch {
	case !found || !slash || namespace == "" || service == "" || port == "" || strings.ContainsAny(service+port, "/:"):
		return "", fmt.Errorf("server %q must be endpoints:NAMESPACE/SERVICE:PORT", o.Server)
	case o.Endpoints == nil || o.TLS == nil:
		return "", fmt.Errorf("server %q is found by the API server, and the connection needs TLS: give --server-ca", o.Server)
	}
	return o.Endpoints.Scheme() + ":///" + name, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// dial prepares the connection; it is made and remade when streams need it.
func dial(o Options) (*grpc.ClientConn, error) {
	to, err := target(o)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if o.TLS != nil {
		creds = credentials.NewTLS(o.TLS)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		// follow does the waiting; gRPC's own would add a second or more.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstDelay, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastDelay},
			MinConnectTimeout: 3 * time.Second,
		}),
	}
	if o.Credentials != nil {
		options = append(options, grpc.WithPerRPCCredentials(o.Credentials))
	}
	if o.Endpoints != nil {
		options = append(options, grpc.WithResolvers(o.Endpoints))
	}
	if !strings.HasPrefix(to, "unix:") {
		// Finds a peer that vanished without a word; on a unix socket the
		// kernel tells.
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
	}
	conn, err := grpc.NewClient(to, options...)
	if err != nil {
		return nil, fmt.Errorf("control plane %s: %w", o.Server, err)
	}
	return conn, nil
}

// follow keeps a stream open until ctx ends.
func (f *Feed) follow(ctx context.Context, conn *grpc.ClientConn) {
	client := discovery.NewAggregatedDiscoveryServiceClient(conn)
	delay := firstDelay
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		conn.ResetConnectBackoff()
		answered, err := f.session(ctx, client)
		if ctx.Err() != nil {
			return
		}
		if answered {
			delay = firstDelay
		}
		f.disconnected(err)
		timer.Reset(delay/2 + rand.N(delay/2)) // jitter, so that nodes spread out
		delay = min(2*delay, lastDelay)
	}
}

// session runs one stream to its end. answered tells whether the server sent
// anything.
func (f *Feed) session(ctx context.Context, client discovery.AggregatedDiscoveryServiceClient) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.DeltaAggregatedResources(ctx)
	if err != nil {
		return false, err
	}
	for _, request := range f.subscriptions() {
		if err := send(stream, request); err != nil {
			return false, err
		}
	}
	f.connected()
	var replying sync.WaitGroup
	replying.Go(func() {
		_ = f.reply(ctx, stream) // the cause is Recv's to tell
		cancel()
	})
	defer replying.Wait()
	defer cancel()
	for {
		response, err := stream.Recv()
		if err != nil {
			return answered, err
		}
		answered = true
		f.accept(response)
	}
}

type adsStream = grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]

// send hides that gRPC reports a broken stream as io.EOF here and keeps the
// cause for Recv.
func send(stream adsStream, request *discovery.DeltaDiscoveryRequest) error {
	err := stream.Send(request)
	if !errors.Is(err, io.EOF) {
		return err
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// subscriptions returns the first request of each type. They tell what is
// known already, so that only differences come back.
func (f *Feed) subscriptions() []*discovery.DeltaDiscoveryRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*discovery.DeltaDiscoveryRequest
	for i, typeURL := range xds.Types {
		request := &discovery.DeltaDiscoveryRequest{
			TypeUrl:                 typeURL,
			ResourceNamesSubscribe:  []string{"*"},
			InitialResourceVersions: f.mu.store.of(typeURL).versions(),
		}
		if i == 0 { // the server remembers the node for the stream
			request.Node = &core.Node{Id: f.o.Node, UserAgentName: "heddled"}
		}
		out = append(out, request)
	}
	return out
}

func (f *Feed) connected() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.o.Log.Info("connected to the control plane", "server", f.o.Server)
	clear(f.mu.answered)
	f.mu.waiting = nil // of the stream before
	f.mu.status.Connected = true
	f.mu.status.Error = ""
	f.mu.status.Since = time.Now()
}

func (f *Feed) disconnected(err error) {
	text := describe(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.mu.status
	if s.Connected || s.Error != text { // once for each new cause, not for each attempt
		f.o.Log.Warn("no connection to the control plane; the last good state stays in force", "server", f.o.Server, "error", text)
	}
	if s.Connected {
		s.Connected = false
		s.Since = time.Now()
	}
	s.Error = text
}

// describe turns a gRPC error into the part that an operator can use.
func describe(err error) string {
	if errors.Is(err, io.EOF) {
		return "the server ended the stream"
	}
	if s, ok := status.FromError(err); ok {
		return fmt.Sprintf("%s (%s)", printable(s.Message()), s.Code())
	}
	return err.Error()
}
