package plane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"heddle.io/heddle/controlplane/model"
	"heddle.io/heddle/controlplane/serve"
	"heddle.io/heddle/controlplane/source"
	"heddle.io/heddle/controlplane/translate"
)

// maxConnections bounds the open connections of nodes.
const maxConnections = 2 * serve.DefaultMaxStreams

// Plane is a control plane. Create it with New, start it once with Run.
type Plane struct {
	c       Config
	log     *slog.Logger
	started time.Time

	source  objectSource
	cluster *cluster // nil: none
	server  *serve.Server
	grpc    *grpc.Server
	xds     net.Listener
	admin   net.Listener

	endStreams context.CancelFunc
	recorded   atomic.Uint64 // calls of record
	metrics    *metrics

	mu struct {
		sync.Mutex
		source    source.Update     // the newest
		translate []model.Problem   // of what is served
		snapshot  *model.Snapshot   // that is served; nil: none yet
		result    *translate.Result // likewise
		since     map[cause]time.Time
	}
}

// objectSource is where the objects come from.
type objectSource interface {
	Run(ctx context.Context) // until ctx ends
	Updates() <-chan source.Update
}

// New opens the sockets, so that what is wrong with them shows at once. After an
// error nothing is left open.
func New(ctx context.Context, c Config) (*Plane, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Plane{c: c, log: c.Log, started: time.Now()}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.mu.since = make(map[cause]time.Time)
	var err error
	if p.admin, err = listen(ctx, "--admin", c.Admin); err != nil {
		return nil, err
	}
	if p.xds, err = listen(ctx, "--listen", c.Listen); err != nil {
		p.admin.Close()
		return nil, err
	}
	if err := p.open(); err != nil {
		p.admin.Close()
		p.xds.Close()
		return nil, err
	}
	return p, nil
}

// open makes the parts.
func (p *Plane) open() error {
	c := p.c
	options := serve.GRPCOptions()
	switch {
	case c.Cluster != nil:
		var err error
		if p.cluster, err = p.newCluster(c.Cluster); err != nil {
			return err
		}
		options = append(options, p.cluster.options()...)
	case c.TLS != nil:
		options = append(options, grpc.Creds(credentials.NewTLS(c.TLS)))
	}
	if err := p.openSource(); err != nil {
		return err
	}
	streams, end := context.WithCancel(context.Background())
	p.endStreams = end
	p.server = serve.New(streams, 0)
	p.grpc = grpc.NewServer(options...)
	p.server.Register(p.grpc)
	p.metrics = newMetrics(p)
	return nil
}

func (p *Plane) openSource() error {
	if p.c.Source == Kubernetes {
		objects, err := source.NewKubernetes(p.c.Cluster.API, p.log)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
		p.source = objects
		return nil
	}
	p.source = source.New(source.Options{
		Path:     strings.TrimPrefix(p.c.Source, "dir:"),
		StateDir: p.c.StateDir,
		Log:      p.log,
	})
	return nil
}

// Run serves until ctx ends, then ends the streams and returns nil. It returns
// an error when a socket stops to work.
func (p *Plane) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var running sync.WaitGroup
	run := func(what string, serve func() error) {
		running.Go(func() {
			if err := serve(); err != nil {
				fail(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	running.Go(func() { p.source.Run(ctx) })
	running.Go(func() { p.follow(ctx) })
	if p.cluster != nil {
		running.Go(func() { p.cluster.run(ctx) })
	}
	run("serving nodes on "+p.c.Listen, func() error { return p.grpc.Serve(limit(p.xds, maxConnections)) })
	run("admin socket "+p.c.Admin, func() error { return p.serveAdmin(ctx) })

	<-ctx.Done()
	p.stopStreams()
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// stopStreams ends the streams. Nodes keep what they have, and come back.
func (p *Plane) stopStreams() {
	p.endStreams()
	stopped := make(chan struct{})
	go func() { p.grpc.GracefulStop(); close(stopped) }()
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
		p.grpc.Stop() // which ends GracefulStop too
		<-stopped
	}
}

// follow translates and serves what the source delivers.
func (p *Plane) follow(ctx context.Context) {
	var served *model.Snapshot
	var translator translate.Translator
	if p.c.Cluster != nil {
		translator.Exempt = p.c.Cluster.Namespace // or no agent could start there
	}
	for {
		var u source.Update
		select {
		case <-ctx.Done():
			return
		case u = <-p.source.Updates():
		}
		p.mu.Lock()
		problems := p.mu.translate
		p.mu.Unlock()
		if u.Snapshot != nil && u.Snapshot != served {
			result := translator.Build(u.Snapshot)
			if err := p.server.Set(result); err != nil {
				// Only a message that protobuf cannot encode leads here.
				p.log.Error("the change is not served; the state before it stays in force", "error", err)
				result.Problems = append(result.Problems, model.Problem{Object: "controller", Reason: "NotServed", Detail: err.Error()})
			}
			problems = result.Problems
			p.metrics.change.Observe(time.Since(u.Noticed).Seconds())
			if served == nil {
				p.log.Info("serving", "resources", len(result.Resources), "after", time.Since(p.started).Round(time.Millisecond))
			}
			served = u.Snapshot
			p.mu.Lock()
			p.mu.snapshot, p.mu.result = u.Snapshot, result
			p.mu.Unlock()
		}
		p.record(u, problems, time.Now())
	}
}
