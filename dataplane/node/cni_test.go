package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/cni/plugin"
	"heddle.io/heddle/dataplane/feed/feedtest"
	"heddle.io/heddle/dataplane/nettest"
)

// plugins are where the distribution keeps the CNI plugins.
const plugins = "/usr/lib/cni"

const ptpList = `{
  "cniVersion": "1.0.0", "name": "test",
  "plugins": [
    {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "DATA", "ranges": [[{"subnet": "PREFIX0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
  ]
}
`

// runtimeRig is a rig with a container runtime, as far as CNI goes: real plugins,
// called by the library that runtimes use.
type runtimeRig struct {
	*rig
	confDir, binDir string
	prefix          string // of its pods' addresses: three bytes and a dot
}

func newRuntimeRig(t *testing.T) *runtimeRig {
	t.Helper()
	r := &runtimeRig{rig: newRig(t)}
	dir := t.TempDir()
	r.confDir, r.binDir = filepath.Join(dir, "net.d"), filepath.Join(dir, "bin")
	for _, dir := range []string{r.confDir, r.binDir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.prefix = freePrefix(t)
	r.conflist(strings.NewReplacer("DATA", filepath.Join(dir, "ipam"), "PREFIX", r.prefix).Replace(ptpList))
	r.config.CNIConfDir, r.config.CNIBinDir = r.confDir, r.binDir
	r.config.CNIPlugin = filepath.Join(dir, plugin.Type)
	build := exec.Command("go", "build", "-o", r.config.CNIPlugin, "heddle.io/heddle/cmd/heddle-cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the plugin: %v: %s", err, out)
	}
	return r
}

// freePrefix returns one to which the machine has no route. The plugin keeps a
// route that is there already, even one to a pod of the test before, whose
// interface is gone only when the kernel has cleaned up its namespace; the pod with
// the same address would hear no answer then.
func freePrefix(t *testing.T) string {
	t.Helper()
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 256 {
		prefix := fmt.Sprintf("10.77.%d.", (os.Getpid()+i)%256)
		if !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Dst != nil && strings.HasPrefix(r.Dst.IP.String(), prefix) }) {
			return prefix
		}
	}
	t.Fatal("the machine has routes to all of 10.77.0.0/16")
	return ""
}

// conflist writes the runtime's configuration as another agent would.
func (r *runtimeRig) conflist(text string) {
	r.t.Helper()
	path := filepath.Join(r.confDir, "10-test.conflist")
	err := os.WriteFile(path+".tmp", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *runtimeRig) isChained() bool {
	text, err := os.ReadFile(filepath.Join(r.confDir, "10-test.conflist"))
	return err == nil && strings.Contains(string(text), plugin.Type)
}

// sandbox is a pod as a runtime makes it.
type sandbox struct {
	*nettest.NS
	rig  *runtimeRig
	id   string
	args *libcni.RuntimeConf
}

func (r *runtimeRig) sandbox(name, uid string) *sandbox {
	r.t.Helper()
	ns := nettest.Netns(r.t)
	return &sandbox{ns, r, uid, &libcni.RuntimeConf{
		ContainerID: uid, NetNS: ns.Path(), IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", name},
			{"K8S_POD_INFRA_CONTAINER_ID", uid}, {"K8S_POD_UID", uid}},
	}}
}

func (s *sandbox) list() (*libcni.CNIConfig, *libcni.NetworkConfigList) {
	list, err := libcni.ConfListFromFile(filepath.Join(s.rig.confDir, "10-test.conflist"))
	if err != nil {
		s.rig.t.Fatal(err)
	}
	return libcni.NewCNIConfigWithCacheDir([]string{plugins, s.rig.binDir}, filepath.Join(s.rig.t.TempDir(), "cache"), nil), list
}

// add runs the chain.
func (s *sandbox) add() error {
	config, list := s.list()
	_, err := config.AddNetworkList(context.Background(), list, s.args)
	return err
}

func (s *sandbox) del() error {
	config, list := s.list()
	return config.DelNetworkList(context.Background(), list, s.args)
}

const (
	uidA = "0a1b2c3d-1111-2222-3333-00000000000a"
	uidB = "0a1b2c3d-1111-2222-3333-00000000000b"
)

// name tells the control plane's answer: a pod with this uid, without an address
// as yet.
func (r *rig) name(pod, uid string, mesh bool, addresses ...string) {
	w := feedtest.Workload(pod, mesh)
	w.Uid, w.Addresses = uid, nil
	for _, a := range addresses {
		w.Addresses = append(w.Addresses, netip.MustParseAddr(a).AsSlice())
	}
	r.server.Set(xds.WorkloadType, "shop/"+pod, w)
}

func (r *rig) listed(name string) (api.Pod, bool) {
	for _, p := range get[[]api.Pod](r, "/v1/pods") {
		if p.Name == name {
			return p, true
		}
	}
	return api.Pod{}, false
}

// A pod is captured when the runtime may start it, by the address that its
// network plugin gave it, and is let go when the runtime says so.
func TestPluginEnrolsBeforeThePodRuns(t *testing.T) {
	r := newRuntimeRig(t)
	a := r.start()
	r.eventually("the chain is kept", r.isChained)
	r.name("web", uidA, true)
	s := r.sandbox("web", uidA)
	if err := s.add(); err != nil {
		t.Fatal(err)
	}
	p, ok := r.listed("web")
	if !ok || !p.Enrolled || len(p.Addresses) != 1 || !strings.HasPrefix(p.Addresses[0], r.prefix) {
		t.Fatalf("when the pod may start it is %+v", p)
	}
	// The pod before, of the same name, ends late.
	old := r.sandbox("web", uidB)
	if err := old.del(); err != nil {
		t.Fatal(err)
	}
	if p, _ := r.listed("web"); !p.Enrolled {
		t.Errorf("the end of another pod of that name made it %+v", p)
	}
	if err := s.del(); err != nil {
		t.Fatal(err)
	}
	if p, ok := r.listed("web"); ok {
		t.Errorf("after its end there is %+v", p)
	}
	r.name("plain", uidB, false)
	if err := r.sandbox("plain", uidB).add(); err != nil {
		t.Errorf("a pod outside the mesh: %v", err)
	}
	if p, _ := r.listed("plain"); p.Enrolled || p.Mode != "" {
		t.Errorf("a pod outside the mesh is %+v", p)
	}
	a.end()
}

// While another pod of its name is what the control plane knows, a pod waits.
func TestPodWaitsForItsOwnUID(t *testing.T) {
	r := newRuntimeRig(t)
	r.start()
	r.eventually("the chain is kept", r.isChained)
	r.name("db-0", uidA, false)
	added := make(chan error, 1)
	s := r.sandbox("db-0", uidB)
	go func() { added <- s.add() }()
	r.eventually("announced", func() bool { _, ok := r.listed("db-0"); return ok })
	if p, _ := r.listed("db-0"); p.Enrolled || !strings.Contains(p.Reason, uidA) {
		t.Errorf("the pod is %+v", p)
	}
	select {
	case err := <-added:
		t.Fatalf("let go by the word about another pod: %v", err)
	default:
	}
	r.name("db-0", uidB, true)
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	if p, _ := r.listed("db-0"); !p.Enrolled {
		t.Errorf("the pod is %+v", p)
	}
}

// A pod that started while the agent was down, held back, is found by its
// cgroup, enrolled, and let go; one outside the mesh is let go.
func TestHeldPodsAreFoundAndLetGo(t *testing.T) {
	r := newRuntimeRig(t)
	r.server.Set(xds.NodeType, feedtest.Node, &xds.Node{Name: feedtest.Node, PodStart: &xds.PodStart{
		WhenAgentDown: xds.PodStart_DROP, ExemptNamespaces: []string{"infra"},
	}})
	a := r.start()
	r.eventually("the chain is kept", r.isChained)
	r.eventually("the policy is written", func() bool {
		text, err := os.ReadFile(r.config.cniPolicy())
		return err == nil && strings.Contains(string(text), `"Drop"`) && strings.Contains(string(text), "infra")
	})
	a.end()
	in, out := r.sandbox("web", uidA), r.sandbox("plain", uidB)
	for _, s := range []*sandbox{in, out} {
		if err := s.add(); err != nil {
			t.Fatal(err)
		}
		s.runs()
		if s.reachesNode() {
			t.Errorf("%s sends before anybody has decided", s.id)
		}
	}
	r.name("web", uidA, true, in.address())
	r.name("plain", uidB, false, out.address())
	r.start()
	r.eventually("both pass", func() bool { return in.reachesNode() && out.reachesNode() })
	if p, _ := r.listed("web"); !p.Enrolled {
		t.Errorf("the pod in the mesh is %+v", p)
	}
	status := get[api.AgentStatus](r.rig, "/v1/status")
	if slices.ContainsFunc(status.Problems, func(p api.Problem) bool { return p.Reason == "StartedOutsideChain" }) {
		t.Errorf("problems: %+v; it started when there was no agent", status.Problems)
	}
}

// A pod that starts while another program has taken the plugin out of the chain
// is enrolled all the same, and it is told.
func TestPodOutsideTheChainIsFoundAndTold(t *testing.T) {
	r := newRuntimeRig(t)
	r.start()
	r.eventually("the chain is kept", r.isChained)
	s := r.sandbox("web", uidA)
	config, list := s.list()
	list.Plugins = list.Plugins[:1] // what the runtime read in between
	if _, err := config.AddNetworkList(context.Background(), list, s.args); err != nil {
		t.Fatal(err)
	}
	s.runs()
	r.name("web", uidA, true, s.address())
	r.eventually("enrolled", func() bool { p, _ := r.listed("web"); return p.Enrolled })
	r.eventually("told", func() bool {
		return slices.ContainsFunc(get[api.AgentStatus](r.rig, "/v1/status").Problems, func(p api.Problem) bool {
			return p.Object == "Pod shop/web" && p.Reason == "StartedOutsideChain"
		})
	})
}

func TestCleanLeavesNothing(t *testing.T) {
	r := newRuntimeRig(t)
	before, err := os.ReadFile(filepath.Join(r.confDir, "10-test.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	a := r.start()
	r.eventually("the chain is kept", r.isChained)
	r.name("web", uidA, true)
	s := r.sandbox("web", uidA)
	if err := s.add(); err != nil {
		t.Fatal(err)
	}
	if _, err := Clean(r.config, false); err == nil {
		t.Fatal("cleaned under a running agent")
	}
	a.end()
	left, err := Clean(r.config, true)
	if err != nil || len(left) < 10 {
		t.Fatalf("there is %q, %v", left, err)
	}
	removed, err := Clean(r.config, false)
	if err != nil || !slices.Equal(removed, left) && len(removed) < len(left)-2 {
		t.Errorf("removed %q of %q, %v", removed, left, err)
	}
	for range 2 {
		if left, err = Clean(r.config, true); err != nil || len(left) > 0 {
			t.Errorf("left: %q, %v", left, err)
		}
		if _, err := Clean(r.config, false); err != nil {
			t.Error(err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(r.confDir, "10-test.conflist")); err != nil || string(after) != string(before) {
		t.Errorf("the runtime's configuration is %s, %v", after, err)
	}
	if _, err := os.Stat(r.config.StateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state directory: %v", err)
	}
	r.eventually("the pod reaches the node", s.reachesNode)
}

// address is what the network plugin gave the pod.
func (s *sandbox) address() string {
	s.rig.t.Helper()
	var address string
	s.Do(s.rig.t, func() { address = addressOf(s.rig.t, "eth0") })
	return address
}

// runs puts a process into the pod: in its namespace and in a cgroup of its
// name.
func (s *sandbox) runs() {
	s.rig.t.Helper()
	c := exec.Command("sleep", "120")
	s.Do(s.rig.t, func() {
		runtime.LockOSThread() // the child starts in this thread's namespace
		defer runtime.UnlockOSThread()
		if err := c.Start(); err != nil {
			s.rig.t.Fatal(err)
		}
	})
	s.rig.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	dir := filepath.Join(nettest.Cgroup(s.rig.t), "kubepods", "besteffort", "pod"+s.id, "pause")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0)
	}
	if err != nil {
		s.rig.t.Fatal(err)
	}
}

// reachesNode reports whether the pod's packets arrive at its gateway: a refused
// connection is an answer.
func (s *sandbox) reachesNode() bool {
	s.rig.t.Helper()
	reached := false
	s.Do(s.rig.t, func() { reached = errors.Is(dialOnce(s.rig.prefix+"1:9"), syscall.ECONNREFUSED) })
	return reached
}

func dialOnce(address string) error {
	c, err := net.DialTimeout("tcp4", address, 500*time.Millisecond)
	if err == nil {
		c.Close()
	}
	return err
}

func addressOf(t *testing.T, name string) string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil || len(list) == 0 {
		t.Fatalf("no address, %v", err)
	}
	return list[0].IP.String()
}
