package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/admin"
	"heddle.io/heddle/dataplane/attach"
	"heddle.io/heddle/dataplane/cni"
	"heddle.io/heddle/dataplane/enroll"
	"heddle.io/heddle/dataplane/feed"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/tables"
)

// ErrEnvironment is wrapped by errors of New that mean: this machine, or this
// process's rights on it, do not fit.
var ErrEnvironment = errors.New("environment")

// Node is the agent of one node. Create it with New, start it once with Run.
type Node struct {
	c       Config
	started time.Time
	release string // of the kernel
	kernel  *attach.Kernel
	tables  shown
	pods    *enroll.Registry
	feed    *feed.Feed
	metrics *admin.Metrics
	socket  net.Listener
	cni     net.Listener // for the CNI plugin
	chain   *cni.Keeper  // nil: the runtime's configuration is left alone
	finder  *finder

	loop *loop // owned by Run's goroutine

	mu struct {
		sync.Mutex
		now     *now           // never nil, never changed: replaced
		changed chan struct{}  // closed when now is replaced
		waiting map[string]int // pods whose announcement waits, by key
		since   map[api.Problem]time.Time
	}
}

// now is what the loop has brought about, for everybody to read.
type now struct {
	view     *admin.View // nil before the first state is in force
	members  []member
	plan     api.Plan
	problems []api.Problem
	noBypass string // why no pod may join the socket bypass
	cached   bool   // the state is from the disk, the control plane has not spoken yet
}

// New brings the kernel to this version's programs, adopting what an earlier
// agent left, and opens the admin socket. Traffic is not touched yet, and not
// lost. Errors wrap ErrConfig or ErrEnvironment.
func New(ctx context.Context, c Config) (*Node, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{c: c, started: time.Now(), metrics: admin.NewMetrics()}
	n.mu.now, n.mu.changed = &now{}, make(chan struct{})
	n.finder = &finder{n: n}
	n.mu.waiting, n.mu.since = make(map[string]int), make(map[api.Problem]time.Time)
	if err := n.open(ctx); err != nil {
		n.Close()
		return nil, fmt.Errorf("%w: %w", ErrEnvironment, err)
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	var err error
	if n.release, err = kernelRelease(); err != nil {
		return err
	}
	if err := n.openKernel(ctx); err != nil {
		return err
	}
	contents, err := n.tables.Read()
	if err != nil {
		return fmt.Errorf("reading the tables: %w", err)
	}
	n.loop = newLoop(n, contents)
	if err := n.openPods(contents); err != nil {
		return err
	}
	if n.feed, err = feed.New(n.c.feedOptions()); err != nil {
		return err
	}
	if n.socket, err = admin.Listen(ctx, n.c.adminPath()); err != nil {
		return err
	}
	return n.openCNI(ctx)
}

func (n *Node) openKernel(ctx context.Context) error {
	cgroup := n.c.Cgroup
	var err error
	if cgroup == "" {
		if cgroup, err = cgroupRoot("/proc/self/mountinfo"); err != nil {
			return err
		}
	}
	own, ownErr := ownCgroups(cgroup)
	n.kernel, err = n.takeOver(ctx, attach.Options{
		Cgroup: cgroup, Pins: n.c.Pins, Limits: n.c.mapLimits(), TC: n.c.TC, OwnCgroups: own,
		FastPath: n.c.FastPath, SelfTest: n.selfTest, Log: n.c.Log,
	})
	if err != nil {
		return err // says more about the cgroup than ownErr
	}
	if ownErr != nil {
		return ownErr
	}
	n.tables = shown{tables.New(n.kernel.Maps()), n.c.Pins}
	return nil
}

// takeOver opens the kernel's objects. An agent that stands by waits until the
// one before it has ended; from then on to the end of New nobody serves the
// sockets, while the kernel goes on with what is pinned.
func (n *Node) takeOver(ctx context.Context, o attach.Options) (*attach.Kernel, error) {
	for {
		k, err := attach.Open(o)
		if !n.c.StandBy || !errors.Is(err, attach.ErrLocked) {
			return k, err
		}
		n.c.Log.Info("standing by until the agent before this one has ended", "why", err)
		if err := attach.Await(ctx, o.Pins); err != nil {
			return nil, fmt.Errorf("standing by: %w", err)
		}
		n.c.Log.Info("the agent before has ended; taking over")
	}
}

// openPods reads the announced pods. When that list is lost, the pods are
// found again by what the kernel's tables say of them.
func (n *Node) openPods(contents *plan.Contents) error {
	programmed := make(map[uint32]uint64, len(contents.Ifaces))
	for ifindex, iface := range contents.Ifaces {
		programmed[ifindex] = iface.Netns
	}
	registry, lost, err := enroll.Open(enroll.Options{
		File: filepath.Join(n.c.StateDir, podsFile), MaxPods: n.limits().Pods,
		Host: enroll.Machine{}, Log: n.c.Log, Programmed: programmed,
	})
	if err != nil {
		return err
	}
	n.pods = registry
	if lost == nil {
		return nil
	}
	if !errors.Is(lost, fs.ErrNotExist) {
		n.c.Log.Warn("list of pods is lost; finding them again in the kernel's tables", "error", lost)
		n.loop.lost = lost
	}
	var orphans []enroll.Orphan
	for ifindex, iface := range contents.Ifaces {
		o := enroll.Orphan{Cookie: iface.Netns, Ifindex: ifindex}
		for _, a := range iface.Addr[:min(int(iface.AddrCount), len(iface.Addr))] {
			o.Addresses = append(o.Addresses, bpf.AddrOf(a))
		}
		orphans = append(orphans, o)
	}
	registry.Adopt(orphans)
	return nil
}

// limits are the sizes that the maps really have.
func (n *Node) limits() plan.Limits {
	maps := n.kernel.Maps()
	size := func(name string) int { return int(maps[name].MaxEntries()) }
	return plan.Limits{
		Pods:      min(size(bpf.MapPods), size(bpf.MapIfaces), size(bpf.MapIfStats), size(bpf.MapBypass)/bpf.MaxPodAddrs),
		Services:  size(bpf.MapServices),
		Splits:    size(bpf.MapSplits),
		Clusters:  size(bpf.MapClusters),
		Endpoints: size(bpf.MapEndpoints),
		Members:   size(bpf.MapMembers),
	}
}

// Run works until ctx ends. The kernel keeps what is pinned: connections and
// programmed services work on without the agent.
func (n *Node) Run(ctx context.Context) error {
	defer n.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failure error
	var failed sync.Once
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.feed.Run(ctx); err != nil {
			n.c.Log.Error("feed ended", "error", err)
		}
	})
	serve := func(s *admin.Server, l net.Listener) {
		running.Go(func() {
			if err := s.Serve(ctx, l); err != nil {
				failed.Do(func() { failure = err })
				cancel() // an agent that cannot be asked is restarted
			}
		})
	}
	serve(admin.NewServer(n, n.tables, n.metrics, n.c.Log), n.socket)
	serve(admin.NewEnrolment(n, n.metrics, n.c.Log), n.cni)
	running.Go(func() { n.finder.run(ctx) })
	if n.chain != nil {
		running.Go(func() { n.chain.Run(ctx) })
	}
	n.loop.run(ctx)
	running.Wait()
	return failure
}

// Close gives up everything that New took, except what is pinned. Run does it
// by itself.
func (n *Node) Close() {
	for _, l := range []net.Listener{n.socket, n.cni} {
		if l != nil {
			l.Close()
		}
	}
	if n.kernel != nil {
		n.kernel.Close()
	}
}
