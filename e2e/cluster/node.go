package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Node is a machine of the cluster: namespaces and cgroups of its own, with
// containerd, the kubelet and kube-proxy in them. Its methods may be used
// concurrently.
type Node struct {
	cluster *Cluster
	spec    nodeSpec

	mu      sync.Mutex
	power   *exec.Cmd   // nil while the node is down
	first   *os.Process // process 1, outside
	ns      *os.File
	control net.Conn
	replies *bufio.Scanner
}

func (c *Cluster) newNode(i int) *Node {
	o := &c.options
	name := fmt.Sprintf("node%d", i)
	n := &Node{cluster: c, spec: nodeSpec{
		Index: i, Name: name, Hybrid: o.Cgroup == CgroupHybrid, DualStack: o.DualStack, Proxy: o.Proxy,
		Disk: filepath.Join(o.Dir, name), Log: c.Logs(), Bin: o.Bin, CNI: cniDir, Keys: o.Dir, KubeletArgs: o.KubeletArgs,
	}}
	if o.UserNamespaces {
		n.spec.Runtime = filepath.Join(o.Bin, runtimeDir)
	}
	return n
}

// Name is the node's in Kubernetes and its hostname: node1, node2, …
func (n *Node) Name() string { return n.spec.Name }

// IP is the node's IPv4 address.
func (n *Node) IP() string { return nodeIP(n.spec.Index) }

// IP6 is the node's IPv6 address, in a cluster with DualStack.
func (n *Node) IP6() string { return nodeIP6(n.spec.Index) }

// Pid is the node's process 1 as the machine sees it, whose /proc/PID/ns are
// the node's namespaces; 0 while the node is down. A node that starts again has
// other namespaces.
func (n *Node) Pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.first == nil {
		return 0
	}
	return n.first.Pid
}

// Cgroup is the name of the node's cgroup, below the root of each of the
// machine's hierarchies.
func (n *Node) Cgroup() string { return n.cluster.options.Name + "-" + n.spec.Name }

// Start switches on a node that is down. It returns when the node's services
// run and its images are there; it may take a moment more until the API server
// has the node as Ready.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.power != nil {
		return fmt.Errorf("%s is up already", n.spec.Name)
	}
	if err := n.start(ctx); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w (logs in %s)", n.spec.Name, err, n.spec.Log), n.kill())
	}
	return nil
}

func (n *Node) start(ctx context.Context) (err error) {
	if n.spec.Cgroups, err = makeCgroups(n.Cgroup()); err != nil {
		return err
	}
	if n.ns, err = n.cluster.network.join(n.spec.Index); err != nil {
		return err
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return err
	}
	defer ours.Close()
	defer theirs.Close()
	if n.control, err = net.FileConn(ours); err != nil {
		return err
	}
	n.replies = bufio.NewScanner(n.control)
	log, err := os.OpenFile(filepath.Join(n.spec.Log, n.spec.Name+"-init.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := self(stageBoot, n.spec)
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = log, log, "/", environment()
	cmd.ExtraFiles = []*os.File{n.ns, theirs}
	if err := n.cluster.thread.start(cmd); err != nil {
		return err
	}
	n.power = cmd
	theirs.Close() // so that the connection ends with the node
	r, err := n.receive(ctx)
	if err != nil {
		return err
	}
	// From here on it is known by a handle, which no other process ever has.
	if n.first, err = os.FindProcess(r.Pid); err != nil {
		return err
	}
	_, err = n.receive(ctx)
	return err
}

func socketpair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "owner"), os.NewFile(uintptr(fds[1]), "node"), nil
}

// receive waits for the next message of the node.
func (n *Node) receive(ctx context.Context) (r reply, err error) {
	deadline := time.Now().Add(2 * patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := n.control.SetReadDeadline(deadline); err != nil {
		return r, err
	}
	defer context.AfterFunc(ctx, func() { _ = n.control.SetReadDeadline(time.Now()) })()
	if !n.replies.Scan() {
		if err = n.replies.Err(); err == nil {
			err = errors.New("the node ended")
		}
		return r, err
	}
	if err := json.Unmarshal(n.replies.Bytes(), &r); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// Kill takes the node's power away: all its processes, pods too, end at once,
// and its interfaces, rules, BPF programs and everything on /run are gone. What
// was on its disk stays. It returns when nothing of the node runs any more.
func (n *Node) Kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kill()
}

func (n *Node) kill() (err error) {
	if n.power != nil {
		// Process 1 takes everything in its namespace with it, and its parent ends
		// after that. An error says that they have ended by themselves.
		if n.first != nil {
			_ = n.first.Kill()
		} else {
			_ = n.power.Process.Kill()
		}
		_ = n.power.Wait()
	}
	if n.ns != nil {
		err = n.cluster.network.leave(n.spec.Index) // while the namespace is held: it would take the interface with it
		n.ns.Close()
	}
	if n.control != nil {
		n.control.Close()
	}
	n.power, n.first, n.ns, n.control = nil, nil, nil, nil
	// The kubelet does not start while the cgroups of its last life are there.
	return errors.Join(err, removeCgroups(context.Background(), n.Cgroup()))
}

// Reboot is Kill and Start, and waits for the kubelet to answer.
func (n *Node) Reboot(ctx context.Context) error {
	if err := n.Kill(); err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	return poll(ctx, patience, 50*time.Millisecond, "the kubelet of "+n.spec.Name, func() error {
		return n.cluster.get(ctx, "/api/v1/nodes/"+n.spec.Name+"/proxy/healthz", nil)
	})
}

// StopService ends Containerd, Kubelet or KubeProxy; pods run on.
func (n *Node) StopService(ctx context.Context, name string) error {
	return n.order(ctx, request{Verb: "stop", Service: name})
}

// StartService starts what was stopped. The kubelet can be started again only
// with CgroupHybrid.
func (n *Node) StartService(ctx context.Context, name string) error {
	if name == Kubelet && !n.spec.Hybrid {
		return errors.New("the kubelet ends when it finds cgroups of its last life without a controller for CPU: use CgroupHybrid, or Reboot the node")
	}
	return n.order(ctx, request{Verb: "start", Service: name})
}

// RestartService is StopService and StartService.
func (n *Node) RestartService(ctx context.Context, name string) error {
	if err := n.StopService(ctx, name); err != nil {
		return err
	}
	return n.StartService(ctx, name)
}

func (n *Node) order(ctx context.Context, r request) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.control == nil {
		return fmt.Errorf("%s %s: %s is down", r.Verb, r.Service, n.spec.Name)
	}
	err := json.NewEncoder(n.control).Encode(r)
	if err == nil {
		_, err = n.receive(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s on %s: %w", r.Verb, r.Service, n.spec.Name, err)
	}
	return nil
}

// Command is a command inside the node, in its namespaces and cgroups. It has
// to be started by (*Cluster).StartCommand, so that it ends with this process.
func (n *Node) Command(ctx context.Context, args ...string) *exec.Cmd {
	pid := n.Pid()
	n.mu.Lock()
	order := self(stageEnter, entrance{Pid: pid, Cgroups: n.spec.Cgroups}, args...)
	n.mu.Unlock()
	cmd := exec.CommandContext(ctx, order.Path)
	cmd.Args, cmd.Env = order.Args, environment()
	return cmd
}

// Exec runs a command inside the node and returns what it writes to its
// standard output.
func (n *Node) Exec(ctx context.Context, args ...string) (string, error) {
	return n.ExecInput(ctx, nil, args...)
}

// ExecInput is Exec with something to read for the command.
func (n *Node) ExecInput(ctx context.Context, input io.Reader, args ...string) (string, error) {
	if n.Pid() == 0 {
		return "", fmt.Errorf("run %v: %s is down", args, n.spec.Name)
	}
	cmd := n.Command(ctx, args...)
	cmd.Stdin = input
	out, err := n.cluster.output(cmd)
	if err != nil {
		return out, fmt.Errorf("run %v on %s: %w", args, n.spec.Name, err)
	}
	return out, nil
}

// LoadImage gives the node the images of an OCI or Docker archive. Pods use them
// with imagePullPolicy IfNotPresent or Never.
func (n *Node) LoadImage(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := n.ExecInput(ctx, f, n.spec.ctr(), "--namespace=k8s.io", "images", "import", "-"); err != nil {
		return fmt.Errorf("load %s: %w", archive, err)
	}
	return nil
}

// Netns opens the node's network namespace. The caller closes it.
func (n *Node) Netns() (*os.File, error) {
	return os.Open("/proc/" + strconv.Itoa(n.Pid()) + "/ns/net")
}

// output runs a command on the cluster's thread and returns its standard
// output; the error has what it said on the other.
func (c *Cluster) output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err := c.StartCommand(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
