package scenarios

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"heddle.io/heddle/install/sandbox"
)

// Whatever is wrong with the objects: `heddlectl status` names the object and
// says what is wrong, and the last good state stays in force.
func TestBadObjects(t *testing.T) {
	m := up(t, "shop.yaml")
	const good = "backend, port: 8002"
	m.file("route.yaml", route("r", "shop", "", "web, port: 80", good))
	m.eventually("the good route", func() error { return m.onlyBy("8002") })

	for _, tc := range []struct {
		name, file, text string
		status           []string
	}{
		{"malformed YAML", "route.yaml", "apiVersion: [\n  kind: {", []string{"route.yaml"}},
		{"not an object", "route.yaml", "just text\n", []string{"route.yaml"}},
		{"unknown kind", "extra.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: shop}\n", []string{"extra.yaml", "Deployment"}},
		{"all weights 0", "route.yaml", route("r", "shop", "", "web, port: 80", "backend, port: 8003, weight: 0"), []string{"TCPRoute shop/r", "weight"}},
		{"negative weight", "route.yaml", route("r", "shop", "", "web, port: 80", "backend, port: 8003, weight: -1"), []string{"TCPRoute shop/r", "weight"}},
		{"no name", "extra.yaml", "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop}\nspec: {clusterIP: 10.96.3.1}\n", []string{"extra.yaml", "name"}},
		{"bad IP", "extra.yaml", service("bad", "10.96.1.300"), []string{"Service shop/bad", "10.96.1.300"}},
		{"duplicate cluster IP", "extra.yaml", service("twin", "10.96.1.2"), []string{"Service shop/twin", "10.96.1.2"}},
		{"duplicate pod IP", "extra.yaml", fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: twin, namespace: shop}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
status: {podIP: %[1]s, podIPs: [{ip: %[1]s}]}
`, m.podIP("shop/client", false)), []string{"Pod shop/twin", m.podIP("shop/client", false)}},
		{"an object of more than 1 MiB", "route.yaml", strings.Replace(route("r", "shop", "", "web, port: 80", "backend, port: 8003"),
			"namespace: shop}", "namespace: shop, annotations: {a: "+strings.Repeat("x", 1<<20)+"}}", 1), []string{"TCPRoute shop/r"}},
		{"too many backends", "route.yaml", route("r", "shop", "", "web, port: 80", slicesOf(17, "backend, port: 8003")...), []string{"TCPRoute shop/r", "16"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := m.in(t)
			m.file(tc.file, tc.text)
			m.waitStatus(tc.status...)
			if err := m.onlyBy("8002"); err != nil {
				t.Errorf("the last good route is not in force: %v", err)
			}
			// It stays so when everything restarts.
			m.must(m.StopController(t.Context(), syscall.SIGKILL))
			m.must(m.StartController(t.Context(), ""))
			m.waitStatus(tc.status...)
			if err := m.onlyBy("8002"); err != nil {
				t.Errorf("the last good route is not in force after a restart: %v", err)
			}
			// And the complaint goes when the reason does.
			if tc.file != "route.yaml" {
				m.removeFile(tc.file)
			}
			m.file("route.yaml", route("r", "shop", "", "web, port: 80", good))
			m.eventually("no complaint", func() error {
				if out := m.ctl("status"); strings.Contains(out, tc.status[0]) {
					return fmt.Errorf("%q is still in:\n%s", tc.status[0], out)
				}
				return nil
			})
		})
	}

	t.Run("a directory that vanishes", func(t *testing.T) {
		m := m.in(t)
		away := m.ObjectsDir() + ".away"
		m.must(os.Rename(m.ObjectsDir(), away))
		m.waitStatus("SourceUnavailable", m.ObjectsDir())
		if err := m.onlyBy("8002"); err != nil {
			t.Errorf("the last good state is not in force: %v", err)
		}
		m.must(os.Rename(away, m.ObjectsDir()))
		m.file("route.yaml", route("r", "shop", "", "web, port: 80", "backend, port: 8004"))
		m.eventually("a change after the directory is back", func() error { return m.onlyBy("8004") })
	})
}

// onlyBy complains unless new connections to web are answered by one port.
func (m *mesh) onlyBy(port string) error {
	m.t.Helper()
	if got := m.answers("shop/client", "10.96.1.2:80"); got != port {
		return fmt.Errorf("web is answered by %q, want %q", got, port)
	}
	return nil
}

func service(name, ip string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: shop}
spec:
  clusterIP: %s
  clusterIPs: [%s]
  selector: {app: nobody}
  ports: [{name: web, port: 80}]
`, name, ip, ip)
}

func slicesOf(n int, s string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// What does not fit into the kernel's maps is left out whole and named, with the
// flag to raise; what was there keeps its place, and goes on to change.
func TestMapFull(t *testing.T) {
	m := upWith(t, sandbox.Options{AgentArgs: []string{"--max-services=14"}}, "shop.yaml")
	m.waitServices("shop/web") // 12 ports, with those of backend
	for i := range 4 {
		m.file(fmt.Sprintf("more%d.yaml", i), service(fmt.Sprintf("more%d", i), fmt.Sprintf("10.96.4.%d", i+1)))
	}
	m.waitStatus("MapFull", "hd_services", "--max-services")
	m.file("route.yaml", route("r", "shop", "", "web, port: 80", "backend, port: 8005"))
	m.eventually("a service that has its place still changes", func() error { return m.onlyBy("8005") })
	for i := range 4 {
		m.removeFile(fmt.Sprintf("more%d.yaml", i))
	}
	m.eventually("there is room again", func() error {
		if out := m.ctl("status"); strings.Contains(out, "MapFull") {
			return fmt.Errorf("still full:\n%s", out)
		}
		return nil
	})
}

// An agent that cannot work says why, what to do, and ends.
func TestAgentCannotStart(t *testing.T) {
	m := up(t)
	p, err := m.AgentProcess("node1")
	m.must(err)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
	m.must(err)
	usual := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")[1:]

	dir := t.TempDir()
	m.must(os.Chmod(dir, 0o755))
	m.must(os.Chmod(filepath.Dir(dir), 0o755))
	agent := filepath.Join(dir, "heddled")
	copyFile(t, filepath.Join(bin, "heddled"), agent)
	own := []string{"--admin=unix://" + filepath.Join(dir, "agent.sock"), "--state-dir=" + filepath.Join(dir, "state")}

	for _, tc := range []struct {
		name  string
		user  uint32
		flags []string
		want  []string
	}{
		{"no permission", 65534, nil, []string{"root"}},
		{"no cgroup2", 0, []string{"--cgroup=" + dir}, []string{dir, "cgroup2"}},
		{"no BPF file system", 0, []string{"--pins=" + filepath.Join(dir, "pins")}, []string{filepath.Join(dir, "pins"), "bpf"}},
		{"a server over the network without TLS", 0, []string{"--server=192.0.2.1:15010"}, []string{"TLS"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, agent, append(append(append([]string{}, usual...), own...), tc.flags...)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{}
			if tc.user != 0 {
				cmd.SysProcAttr.Credential = &syscall.Credential{Uid: tc.user, Gid: tc.user}
			}
			out, err := cmd.CombinedOutput()
			if err == nil || ctx.Err() != nil {
				t.Errorf("the agent did not end with an error (%v)", err)
			}
			m.in(t).mustContain(string(out), tc.want...)
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
