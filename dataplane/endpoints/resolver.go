package endpoints

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
)

const (
	// askEvery is how often the API server is asked while all is well, retryEvery
	// how often at most while connections fail, or it does not answer.
	askEvery   = 10 * time.Second
	retryEvery = time.Second
)

// Builder makes resolvers for targets endpoints:///NAMESPACE/SERVICE:PORT, where
// PORT is the name or the number of a port of the endpoints.
type Builder struct {
	API API
}

// Scheme is that of the targets.
func (Builder) Scheme() string { return "endpoints" }

// Build starts to follow a Service.
func (b Builder) Build(target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	service, port, _ := strings.Cut(target.Endpoint(), ":")
	namespace, name, _ := strings.Cut(service, "/")
	if namespace == "" || name == "" || port == "" {
		return nil, fmt.Errorf("control plane %q must be endpoints:NAMESPACE/SERVICE:PORT", target.Endpoint())
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &follower{api: b.API, namespace: namespace, service: name, port: port, conn: conn, stop: stop, again: make(chan struct{}, 1)}
	f.running.Go(func() { f.run(ctx) })
	return f, nil
}

// follower tells a connection the addresses of a Service.
type follower struct {
	api                      API
	namespace, service, port string
	conn                     resolver.ClientConn
	stop                     context.CancelFunc
	again                    chan struct{} // a connection failed
	running                  sync.WaitGroup
}

// ResolveNow is called when connections fail.
func (f *follower) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// Close returns when nothing is under way.
func (f *follower) Close() {
	f.stop()
	f.running.Wait()
}

func (f *follower) run(ctx context.Context) {
	for {
		wait := askEvery
		if err := f.ask(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			f.conn.ReportError(err)
			wait = retryEvery
		}
		// The pause comes first: a connection that fails all the time does not
		// make the API server busy.
		if !pause(ctx, retryEvery, nil) || !pause(ctx, wait-retryEvery, f.again) {
			return
		}
	}
}

// pause waits until the time is over or something comes. It is false when ctx
// ended.
func pause(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-early:
	case <-timer.C:
	}
	return true
}

var errNone = errors.New("the Service has no ready endpoint with that port: is the controller up?")

// ask gets the addresses and hands them on in random order: the first is used, and
// nodes are to spread out.
func (f *follower) ask(ctx context.Context) error {
	addresses, err := f.api.endpoints(ctx, f.namespace, f.service, f.port)
	if err == nil && len(addresses) == 0 {
		err = errNone
	}
	if err != nil {
		return fmt.Errorf("endpoints of Service %s/%s, port %s: %w", f.namespace, f.service, f.port, err)
	}
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	state := resolver.State{}
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	// An error says that the connection does not like the addresses; it asks again.
	_ = f.conn.UpdateState(state)
	return nil
}
