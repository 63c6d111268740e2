package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The service's address is also put on the loopback interface of each client's
// namespace, with a server of its own. Who is untouched reaches that one; an
// enrolled pod reaches the service.
func TestUntouched(t *testing.T) {
	m := up(t, "shop.yaml", "untouched.yaml")
	m.waitServices("shop/web")
	for _, where := range []string{"plain/client", "shop/out", "shop/host", "shop/client"} {
		m.ownServer(where)
	}

	for _, tc := range []struct{ name, where, by string }{
		{"a pod of a namespace that is not in the mesh", "plain/client", "own"},
		{"a pod that opts out", "shop/out", "own"},
		{"a pod on the host's network", "shop/host", "own"},
		{"a process of the node", "node1", "own"},
		{"an enrolled pod", "shop/client", "backend"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := m.in(t)
			for _, flags := range [][]string{nil, {"-mapped"}} {
				answeredBy(t, m.reach(tc.where, 20, "10.96.1.2:80", flags...), tc.by)
			}
		})
	}
	t.Run("a socket of the agent, inside an enrolled pod", func(t *testing.T) {
		answeredBy(t, m.in(t).asAgent("shop/client", "dial", "-n=20", "10.96.1.2:80"), "own")
	})
	t.Run("an address that is no service", func(t *testing.T) {
		m := m.in(t)
		res := m.reach("shop/client", 20, m.podIP("shop/backend-2", false)+":8003")
		answeredBy(t, res, "backend-2:8003")
	})

	m.waitCtl([]string{"why", "plain/client", "10.96.1.2:80"}, "not_enrolled")
	m.waitCtl([]string{"why", "shop/client", m.podIP("shop/backend-2", false) + ":8003"}, "not_service")
}

// ownServer makes the namespace answer for the service's address itself.
func (m *mesh) ownServer(where string) {
	m.t.Helper()
	namespace, name, _ := strings.Cut(where, "/")
	cmd, err := m.Command(m.t.Context(), namespace, name, "ip", "address", "add", "10.96.1.2/32", "dev", "lo")
	m.must(err)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v: %s", where, err, out)
	}
	server := m.start(where, "serve", "-name=own", "-ports=80")
	m.t.Cleanup(func() {
		server.cmd.Process.Signal(syscall.SIGTERM)
		server.cmd.Wait()
	})
	m.eventually("the server of "+where, func() error {
		return m.peer(where, "dial", "-n=1", "127.0.0.1:80").err()
	})
}

// asAgent runs a peer in the agent's cgroup and a pod's network namespace: that
// is where the agent and the proxy make sockets of their own.
func (m *mesh) asAgent(pod string, args ...string) *result {
	m.t.Helper()
	namespace, name, _ := strings.Cut(pod, "/")
	p, err := m.Pod(namespace, name)
	m.must(err)
	agent, err := m.AgentProcess(p.Node)
	m.must(err)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", agent.PID))
	m.must(err)
	own := ""
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = path
		}
	}
	// The pod's directory tells where the file system is mounted.
	mount, _, ok := strings.Cut(p.Cgroup, "/"+m.Name()+"-sandbox/")
	if own == "" || !ok {
		m.t.Fatalf("the agent's cgroup is %q, the pod's %q", own, p.Cgroup)
	}
	dir, err := os.Open(filepath.Join(mount, own))
	m.must(err)
	defer dir.Close()
	argv := append([]string{"--net=" + p.Netns, filepath.Join(bin, "peer")}, args...)
	cmd := exec.CommandContext(m.t.Context(), "nsenter", argv...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("%v: %v: %s", argv, err, errs.Bytes())
	}
	var r result
	m.must(json.Unmarshal(out, &r))
	m.must(r.err())
	return &r
}

// answeredBy fails for an answer by somebody whose name does not begin so.
func answeredBy(t *testing.T, res *result, prefix string) {
	t.Helper()
	for name, n := range res.By {
		if !strings.HasPrefix(name, prefix) {
			t.Errorf("%d connections were answered by %s, want %s", n, name, prefix)
		}
	}
}
