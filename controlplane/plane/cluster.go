package plane

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	clients "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"heddle.io/heddle/controlplane/issue"
	"heddle.io/heddle/controlplane/model"
	conditions "heddle.io/heddle/controlplane/status"
)

// Names of Heddle's own objects in its namespace.
const (
	controllerName = "heddle-controller" // Service, Lease
	agentAccount   = "heddle-agent"      // ServiceAccount
)

// Requests to the API server beside those of the source: token reviews, which the
// issue package bounds, and what is written.
const (
	apiRate  = 250
	apiBurst = 1100
)

// cluster is what the control plane has to do with the cluster that it runs in,
// beside reading its objects.
type cluster struct {
	authority *issue.Authority
	nodes     *issue.Nodes
	writer    *conditions.Writer
}

func (p *Plane) newCluster(c *Cluster) (*cluster, error) {
	config := rest.CopyConfig(c.API)
	config.UserAgent = "heddle-controller"
	config.QPS, config.Burst = apiRate, apiBurst
	client, err := clients.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("%w: client of the API server: %w", ErrConfig, err)
	}
	writer, err := conditions.New(conditions.Options{
		API: c.API, Namespace: c.Namespace, Pod: c.Pod, Log: p.log,
		Look:    (&board{p: p}).look,
		Changes: func() uint64 { return p.server.Changes() + p.recorded.Load() },
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return &cluster{
		writer:    writer,
		authority: issue.NewAuthority(issue.AuthorityOptions{Client: client, Namespace: c.Namespace, Service: controllerName, Log: p.log}),
		nodes:     issue.NewNodes(issue.NodesOptions{Client: client, Namespace: c.Namespace, Account: agentAccount, Log: p.log}),
	}, nil
}

// options are those of the gRPC server: who connects is shown the cluster's
// certificate, and has to be a node of it.
func (c *cluster) options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(c.authority.TLS())),
		grpc.StreamInterceptor(c.nodes.StreamInterceptor()),
		grpc.UnaryInterceptor(c.nodes.UnaryInterceptor()),
	}
}

// run works until ctx ends.
func (c *cluster) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { c.authority.Run(ctx) })
	running.Go(func() { c.writer.Run(ctx) })
	running.Wait()
}

// wrote counts the statuses that were written, and how often that failed. c may be
// nil.
func (c *cluster) wrote() (writes, failures uint64, leading bool) {
	if c == nil {
		return 0, 0, false
	}
	writes, failures = c.writer.Totals()
	return writes, failures, c.writer.Leading()
}

// refused counts the streams that were refused. c may be nil.
func (c *cluster) refused() map[string]uint64 {
	if c == nil {
		return (*issue.Nodes)(nil).Refused()
	}
	return c.nodes.Refused()
}

func (c *cluster) problems() []model.Problem {
	return slices.Concat(c.authority.Problems(), c.nodes.Problems(), c.writer.Problems())
}
