package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A Cluster is a Kubernetes cluster on this machine. It lives as long as the
// process that made it, or until Down. Its methods may be used concurrently.
type Cluster struct {
	options Options
	keeper  *keeper
	keys    *credentials
	network *network
	thread  *thread
	client  *http.Client
	nodes   []*Node

	mu        sync.Mutex
	processes []*process
}

// Up makes a cluster and returns when all its nodes are Ready and pods can be
// made. On an error nothing is left, but the logs if Options has a directory.
func Up(ctx context.Context, options Options) (*Cluster, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	if err := Sweep(); err != nil {
		return nil, fmt.Errorf("clear what a killed cluster left: %w", err)
	}
	c := &Cluster{options: options}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(err, c.Down())
	}
	if err := c.up(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("bring up a cluster: %w", err), c.Down())
	}
	return c, nil
}

// prepare makes everything that is no process of the cluster.
func (c *Cluster) prepare() (err error) {
	o := &c.options
	temporary, err := o.makeDir()
	if err != nil {
		return fmt.Errorf("make the directory of the cluster: %w", err)
	}
	c.keeper, err = keep(estate{Name: o.Name, Owner: os.Getpid(), Dir: o.Dir, Temporary: temporary})
	if err != nil {
		if temporary {
			os.RemoveAll(o.Dir)
		}
		return err
	}
	if c.keys, err = newCredentials(o.Dir, o.Nodes); err != nil {
		return err
	}
	if c.network, err = newNetwork(o.Nodes, o.DualStack); err != nil {
		return err
	}
	if c.thread, err = newThread(c.network.ns); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.keys.ca)
	c.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: c.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
	return nil
}

// up starts all processes at once: each retries until the others are there, or
// ends and is started again.
func (c *Cluster) up(ctx context.Context) error {
	began := time.Now()
	progress := func(what string) {
		fmt.Fprintf(c.options.Log, "%5.1f s  %s\n", time.Since(began).Seconds(), what)
	}
	c.processes = c.controlPlane()
	for _, p := range c.processes {
		if err := p.start(c.thread); err != nil {
			return err
		}
	}
	var starts errgroup.Group
	for i := 1; i <= c.options.Nodes; i++ {
		node := c.newNode(i)
		c.nodes = append(c.nodes, node)
		starts.Go(func() error { return node.Start(ctx) })
	}
	progress("processes started")
	err := c.waitAPI(ctx)
	if err == nil {
		progress("API server ready")
	}
	if err = errors.Join(err, starts.Wait()); err != nil {
		return err
	}
	progress("images loaded")
	if err := c.waitNodes(ctx); err != nil {
		return err
	}
	progress(fmt.Sprintf("%d nodes Ready", len(c.nodes)))
	if err := c.waitAccount(ctx); err != nil {
		return err
	}
	progress("default service account there")
	return c.writeKubectl()
}

// Down ends the cluster. Nothing is left, but the logs if Options had a
// directory.
func (c *Cluster) Down() error {
	var err error
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
	var kills errgroup.Group
	for _, n := range c.nodes {
		kills.Go(n.Kill)
	}
	err = kills.Wait()
	c.mu.Lock()
	for _, p := range c.processes {
		err = errors.Join(err, p.stop(unix.SIGKILL))
	}
	c.mu.Unlock()
	if c.thread != nil {
		c.thread.stop() // kills what StartCommand started
	}
	if c.network != nil {
		c.network.close()
	}
	if c.keeper != nil {
		err = errors.Join(err, c.keeper.clear())
	}
	return err
}

// Dir is the directory of the cluster.
func (c *Cluster) Dir() string { return c.options.Dir }

// Logs is the directory of the logs: of every process of the control plane, and
// of every service of every node, one file each.
func (c *Cluster) Logs() string { return filepath.Join(c.options.Dir, "log") }

// Nodes are the nodes, node1 first.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Node is node i, from 1.
func (c *Cluster) Node(i int) *Node { return c.nodes[i-1] }

// LoadImage gives every node the images of an archive, see (*Node).LoadImage.
func (c *Cluster) LoadImage(ctx context.Context, archive string) error {
	var all errgroup.Group
	for _, n := range c.nodes {
		all.Go(func() error { return n.LoadImage(ctx, archive) })
	}
	return all.Wait()
}

// DialContext dials an IP address and port as a process of the control plane
// would. It reaches the API server, the nodes and their pods, and is what a
// rest.Config of client-go wants as Dial.
func (c *Cluster) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return c.DialBy(ctx, &net.Dialer{}, network, address)
}

// DialBy is DialContext with a dialer of the caller's, for one who has to come
// from a certain address.
func (c *Cluster) DialBy(ctx context.Context, dialer *net.Dialer, network, address string) (net.Conn, error) {
	return dialInside(ctx, c.network.ns, dialer, network, address)
}
