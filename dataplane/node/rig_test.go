package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/feed/feedtest"
	"heddle.io/heddle/dataplane/nettest"
)

// Marks of the processes that this test binary becomes.
const (
	inNamespace = "HEDDLE_NODE_TEST_NETNS" // the tests, in a network namespace of their own
	asAgent     = "HEDDLE_NODE_TEST_AGENT" // an agent, to be killed; the value is its Config
)

// TestMain moves the tests into a fresh network namespace, which plays the
// node's: an agent looks for interfaces in its own. All threads must be in it,
// and only exec takes them all along.
func TestMain(m *testing.M) {
	if config := os.Getenv(asAgent); config != "" {
		os.Exit(runAgent(config))
	}
	if os.Geteuid() == 0 && os.Getenv(inNamespace) == "" {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), inNamespace+"=1"))
		}
		fmt.Fprintln(os.Stderr, "cannot move the tests into a network namespace:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runAgent is the process of an agent.
func runAgent(config string) int {
	var sent places
	if err := json.Unmarshal([]byte(config), &sent); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	c := sent.config()
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	n, err := New(ctx, c)
	if err == nil {
		err = n.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// places are the parts of a Config that a test's agents differ in.
type places struct{ Server, Cgroup, Pins, Admin, StateDir, SocketBypass string }

func (p places) config() Config {
	return Config{
		Node: feedtest.Node, Server: p.Server, Cgroup: p.Cgroup, Pins: p.Pins, Admin: p.Admin, StateDir: p.StateDir,
		TC: DefaultTC, FastPath: DefaultFastPath, SocketBypass: p.SocketBypass, Version: "test",
	}
}

// rig is a node with a control plane, for one test.
type rig struct {
	t      *testing.T
	server *feedtest.Server
	config Config
	client *http.Client
	host   string // path of the node's network namespace
	try    bool   // agents try the fast path themselves, see tried
}

func newRig(t *testing.T) *rig {
	t.Helper()
	nettest.RequireBPF(t)
	dir := t.TempDir()
	r := &rig{t: t, server: feedtest.New(t), host: hostNetwork(t)}
	r.config = places{
		Server: r.server.Address(), Cgroup: nettest.Cgroup(t), Pins: filepath.Join(nettest.Pins(t), "heddle"),
		Admin: "unix://" + filepath.Join(dir, "agent.sock"), StateDir: filepath.Join(dir, "state"),
		SocketBypass: DefaultSocketBypass,
	}.config()
	r.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // the agent comes and goes
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", r.config.adminPath())
		},
	}}
	r.server.Set(xds.NodeType, feedtest.Node, &xds.Node{Name: feedtest.Node, Zone: "z1"})
	return r
}

// hostNetwork makes the tests' namespace a router, as a node is, and returns
// its path. That of /proc/self will not do: the main thread may be in a pod's.
func hostNetwork(t *testing.T) string {
	t.Helper()
	for name, value := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/default/accept_dad": "0",
	} {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
}

// agent is a running agent; end ends it and waits.
type agent struct {
	*Node
	end func()
}

// start runs an agent in this process. The process must be outside of the
// rig's cgroup then; it may join later.
func (r *rig) start() *agent {
	r.t.Helper()
	r.tried()
	c := r.config
	c.Log = slog.New(slog.NewTextHandler(testLog{r.t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(context.Background())
	n, err := New(ctx, c)
	if err != nil {
		cancel()
		r.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	a := &agent{Node: n, end: func() { cancel(); running.Wait() }}
	r.t.Cleanup(a.end)
	return a
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// spawn starts an agent as a process of its own and waits until it answers.
// kill is kill -9.
func (r *rig) spawn() (kill func()) {
	r.t.Helper()
	r.tried()
	c := r.config
	config, err := json.Marshal(places{c.Server, c.Cgroup, c.Pins, c.Admin, c.StateDir, c.SocketBypass})
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asAgent+"="+string(config))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if r.t.Failed() {
			r.t.Logf("agent %d:\n%s", cmd.Process.Pid, log.String())
		}
	})
	r.t.Cleanup(kill)
	r.eventually("the agent answers", func() bool {
		return r.ask(http.MethodGet, "/v1/status", nil, nil) == nil
	})
	return kill
}

// pod makes a network namespace at address, joined to the node, and the
// Workload for it. It is not announced.
func (r *rig) pod(name, address string, mesh bool) *pod {
	r.t.Helper()
	p := &pod{NS: nettest.Netns(r.t), rig: r, name: name, host: "v" + name, address: netip.MustParseAddr(address)}
	fd, err := unix.Open(p.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer unix.Close(fd)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = p.host
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = netlink.LinkDel(veth) })
	if err := netlink.LinkSetUp(veth); err != nil {
		r.t.Fatal(err)
	}
	gateway, _ := netlink.ParseAddr("169.254.1.1/32")
	if err := netlink.AddrAdd(veth, gateway); err != nil {
		r.t.Fatal(err)
	}
	to, _ := netlink.ParseIPNet(address + "/32")
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Dst: to, Scope: netlink.SCOPE_LINK}); err != nil {
		r.t.Fatal(err)
	}
	p.Do(r.t, func() { p.Up(r.t, "eth0") })
	p.Addr(r.t, "eth0", address+"/32")
	p.Route(r.t, "eth0", "0.0.0.0/0", "169.254.1.1")
	p.label(mesh)
	return p
}

// pod is a pod of the rig.
type pod struct {
	*nettest.NS
	rig     *rig
	name    string
	host    string
	address netip.Addr
}

// label tells the control plane whether the pod is in the mesh.
func (p *pod) label(mesh bool) {
	w := feedtest.Workload(p.name, mesh)
	w.Addresses = [][]byte{p.address.AsSlice()}
	p.rig.server.Set(xds.WorkloadType, "shop/"+p.name, w)
}

func (p *pod) request() api.PodRequest {
	return api.PodRequest{Namespace: "shop", Name: p.name, Netns: p.Path(), Interface: p.host, TimeoutSeconds: 10}
}

func (p *pod) announce() api.Pod {
	p.rig.t.Helper()
	var out api.Pod
	if err := p.rig.ask(http.MethodPut, "/v1/pods", p.request(), &out); err != nil {
		p.rig.t.Fatal(err)
	}
	return out
}

// serve answers every connection to port with the pod's name.
func (p *pod) serve(port uint16) {
	p.rig.t.Helper()
	var l net.Listener
	p.Do(p.rig.t, func() {
		var err error
		if l, err = net.Listen("tcp", netip.AddrPortFrom(p.address, port).String()); err != nil {
			p.rig.t.Fatal(err)
		}
	})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(p.name))
			c.Close()
		}
	})
	p.rig.t.Cleanup(func() { l.Close(); serving.Wait() })
}

// dial connects to address and returns what the server says, and who the
// socket says it is connected to.
func (p *pod) dial(address string) (answer, peer string, err error) {
	p.Do(p.rig.t, func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", address, 3*time.Second); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		var b []byte
		b, err = io.ReadAll(c)
		answer, peer = string(b), c.RemoteAddr().String()
	})
	return answer, peer, err
}

// service makes Service shop/cart at 10.96.0.1:80 with these pods behind port
// 8080.
func (r *rig) service(weight uint32, pods ...*pod) {
	c := feedtest.Cluster("cart")
	for _, p := range pods {
		c.Endpoints = append(c.Endpoints, &xds.Endpoint{
			Address: p.address.AsSlice(), Port: 8080, Health: xds.Health_READY, Node: feedtest.Node, Workload: "shop/" + p.name,
		})
	}
	r.server.Set(xds.ClusterType, c.Name, c)
	r.server.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", weight))
}

const vip = "10.96.0.1:80"

// ask sends a request to the admin socket; an error answer is an error.
func (r *rig) ask(method, path string, body, into any) error {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(b)
	}
	request, err := http.NewRequest(method, "http://agent"+path, sent)
	if err != nil {
		return err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		var e api.Error
		_ = json.NewDecoder(response.Body).Decode(&e)
		return fmt.Errorf("%d: %s", response.StatusCode, e.Error)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// get asks for something that must be there.
func get[T any](r *rig, path string) T {
	r.t.Helper()
	var out T
	if err := r.ask(http.MethodGet, path, nil, &out); err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	r.within(time.Minute, what, ok)
}

func (r *rig) within(limit time.Duration, what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	r.t.Fatalf("not within %v: %s", limit, what)
}
