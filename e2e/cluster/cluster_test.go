package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"heddle.io/heddle/dataplane/nettest"
	"heddle.io/heddle/e2e/cluster"
)

// TestDefault looks at everything that other tests rely on, once: the variants
// below look at what they change.
func TestDefault(t *testing.T) {
	nettest.RequireRoot(t)
	c := up(t, cluster.Options{})
	startPods(t, c)

	t.Run("images", func(t *testing.T) {
		if err := c.LoadImage(t.Context(), filepath.Join(bin, "images", "pause.tar")); err != nil {
			t.Error(err)
		}
		if err := c.LoadImage(t.Context(), "testdata/pods.yaml"); err == nil {
			t.Error("a file that is no archive is taken for an image")
		}
	})
	t.Run("kubectl from outside", func(t *testing.T) {
		out, err := exec.CommandContext(t.Context(), c.KubectlScript(), "get", "nodes", "-o", "name").Output()
		if err != nil || string(out) != "node/node1\nnode/node2\n" {
			t.Errorf("the nodes are %q (%v)", out, err)
		}
	})
	t.Run("exec and logs", func(t *testing.T) {
		if out := inClient(t, c, "id"); !strings.HasPrefix(out, "uid=0") {
			t.Errorf("id in the client's pod says %q", out)
		}
		// The probe's requests are the only ones, and the server does not log them:
		// that the call works is what counts.
		kubectl(t, c, "logs", "deployment/echo")
	})
	t.Run("ClusterIP", func(t *testing.T) { checkClusterIP(t, c) })
	t.Run("across nodes", func(t *testing.T) { checkAcrossNodes(t, c) })
	t.Run("API server from a pod", func(t *testing.T) {
		for path, want := range map[string]string{ // the first is for everybody, the second needs a Role
			"/version":                        "200 {",
			"/api/v1/namespaces/default/pods": "403 {",
		} {
			eventually(t, path, func() error {
				out, err := c.Kubectl(t.Context(), "exec", "client", "--", "/fetch", "https://10.96.0.1"+path)
				if err == nil && !strings.HasPrefix(out, want) {
					err = fmt.Errorf("%q does not begin with %q", out, want)
				}
				return err
			})
		}
	})
	t.Run("cgroup path", func(t *testing.T) { checkCgroupPath(t, c) })
	t.Run("nodes are apart", func(t *testing.T) { checkNodesApart(t, c) })
	t.Run("control plane restarts", func(t *testing.T) {
		for _, name := range []string{cluster.APIServer, cluster.ControllerManager, cluster.Scheduler, cluster.Etcd} {
			t.Run(name, func(t *testing.T) {
				if err := c.Restart(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			})
		}
		kubectl(t, c, "scale", "deployment/echo", "--replicas=3")
		kubectl(t, c, "rollout", "status", "deployment/echo", "--timeout="+patience.String())
	})
	t.Run("reboot", func(t *testing.T) { checkReboot(t, c) })
	t.Run("CoreDNS", func(t *testing.T) {
		if err := c.CoreDNS(t.Context()); err != nil {
			t.Fatal(err)
		}
		address := kubectl(t, c, "get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}")
		eventually(t, "look up the Service", func() error {
			out, err := c.Kubectl(t.Context(), "exec", "client", "--", "timeout", "5", "nslookup", "echo.default.svc.cluster.local")
			if err == nil && !strings.Contains(out, address) {
				err = fmt.Errorf("%q has no %s", out, address)
			}
			return err
		})
	})
	t.Run("kwok", func(t *testing.T) {
		if err := c.Kwok(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
	})
}

// TestVariants are the clusters that are not the default one.
func TestVariants(t *testing.T) {
	nettest.RequireRoot(t)
	for name, v := range map[string]struct {
		options cluster.Options
		check   func(*testing.T, *cluster.Cluster)
	}{
		"hybrid": {cluster.Options{Cgroup: cluster.CgroupHybrid}, func(t *testing.T, c *cluster.Cluster) {
			checkClusterIP(t, c)
			checkCgroupPath(t, c)
			checkServiceRestart(t, c)
		}},
		"iptables": {cluster.Options{Proxy: cluster.ProxyIPTables}, checkClusterIP},
		"dual stack": {cluster.Options{DualStack: true}, func(t *testing.T, c *cluster.Cluster) {
			checkClusterIP(t, c)
			checkAcrossNodes(t, c)
			checkIPv6(t, c)
		}},
		"no proxy, three nodes": {cluster.Options{Proxy: cluster.ProxyNone, Nodes: 3}, checkAcrossNodes},
	} {
		t.Run(name, func(t *testing.T) {
			c := up(t, v.options)
			startPods(t, c)
			v.check(t, c)
		})
	}
}

func startPods(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	b, err := os.ReadFile("testdata/pods.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), string(b)); err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/client", "--timeout="+patience.String())
	kubectl(t, c, "rollout", "status", "deployment/echo", "--timeout="+patience.String())
	nodes := strings.Fields(kubectl(t, c, "get", "pods", "-l", "app=echo", "-o", "jsonpath={.items[*].spec.nodeName}"))
	if len(nodes) != 2 || nodes[0] == nodes[1] {
		t.Fatalf("the two servers are on %v", nodes)
	}
}

func inClient(t *testing.T, c *cluster.Cluster, args ...string) string {
	t.Helper()
	return kubectl(t, c, append([]string{"exec", "client", "--"}, args...)...)
}

// answerer is what a server says before anything else.
var answerer = regexp.MustCompile(`(?m)^200 echo-\S+`)

// checkClusterIP asks the Service until both servers have answered.
func checkClusterIP(t *testing.T, c *cluster.Cluster) {
	address := kubectl(t, c, "get", "service", "echo", "-o", "jsonpath={.spec.clusterIP}")
	names := map[string]bool{}
	eventually(t, "both servers behind the ClusterIP", func() error {
		out, err := c.Kubectl(t.Context(), "exec", "client", "--", "/fetch", "http://"+address+"/", "20")
		for _, name := range answerer.FindAllString(out, -1) {
			names[name] = true
		}
		if err == nil && len(names) < 2 {
			err = fmt.Errorf("only %v answered", names)
		}
		return err
	})
}

// checkAcrossNodes asks a server on another node, which must see the client's
// own address.
func checkAcrossNodes(t *testing.T, c *cluster.Cluster) {
	server := kubectl(t, c, "get", "pods", "-l", "app=echo", "--field-selector=spec.nodeName!=node1", "-o", "jsonpath={.items[0].status.podIP}")
	client := kubectl(t, c, "get", "pod", "client", "-o", "jsonpath={.status.podIP}")
	if out := inClient(t, c, "/fetch", "http://"+server+":8080/"); !strings.Contains(out, "from "+client+":") {
		t.Errorf("the server says %q, the client is %s", out, client)
	}
	inClient(t, c, "ping", "-c", "1", "-W", "10", server)
}

func checkIPv6(t *testing.T, c *cluster.Cluster) {
	server := kubectl(t, c, "get", "pods", "-l", "app=echo", "--field-selector=spec.nodeName!=node1", "-o", "jsonpath={.items[0].status.podIPs[1].ip}")
	client := kubectl(t, c, "get", "pod", "client", "-o", "jsonpath={.status.podIPs[1].ip}")
	if out := inClient(t, c, "/fetch", "http://["+server+"]:8080/"); !strings.Contains(out, "from ["+client+"]:") {
		t.Errorf("the server says %q, the client is %s", out, client)
	}
}

// checkCgroupPath looks for the client's cgroup2 path as the machine sees it.
func checkCgroupPath(t *testing.T, c *cluster.Cluster) {
	uid := kubectl(t, c, "get", "pod", "client", "-o", "jsonpath={.metadata.uid}")
	want := regexp.MustCompile(`(?m)^0::/` + c.Node(1).Cgroup() + `/kubepods/burstable/pod` + uid + `/[0-9a-f]{64}$`)
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && want.Match(b) { // an error is a process that has ended
			return
		}
	}
	t.Errorf("no process has the cgroup %s", want)
}

// checkNodesApart looks at what a node has for itself.
func checkNodesApart(t *testing.T, c *cluster.Cluster) {
	for _, n := range c.Nodes() {
		out, err := n.Exec(t.Context(), "sh", "-c", "hostname; cat /proc/1/cgroup /proc/self/cgroup | grep ^0::; stat -f -c %T /sys/fs/cgroup /sys/fs/bpf")
		if want := n.Name() + "\n0::/\n0::/\ncgroup2fs\nbpf_fs\n"; err != nil || out != want {
			t.Errorf("%s says %q, want %q (%v)", n.Name(), out, want, err)
		}
		if _, err := n.Exec(t.Context(), "sh", "-c", "exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("a command that fails: %v", err)
		}
	}
	if _, err := c.Node(1).Exec(t.Context(), "touch", "/run/mark", "/etc/mark"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/run/mark", "/etc/mark"} {
		if _, err := c.Node(2).Exec(t.Context(), "test", "!", "-e", path); err != nil {
			t.Errorf("node2 sees %s of node1: %v", path, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("the machine sees %s of node1", path)
		}
	}
}

// checkReboot takes node1's power away and gives it back.
func checkReboot(t *testing.T, c *cluster.Cluster) {
	n := c.Node(1)
	containers := func() string {
		return kubectl(t, c, "get", "pod", "client", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	}
	if _, err := n.Exec(t.Context(), "touch", "/run/mark", "/etc/mark"); err != nil {
		t.Fatal(err)
	}
	before, pid := containers(), n.Pid()
	if err := n.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.Pid() == pid {
		t.Errorf("process 1 is still %d", pid)
	}
	eventually(t, "the client's pod to be started anew", func() error {
		if containers() == before {
			return fmt.Errorf("the container is still %s", before)
		}
		_, err := c.Kubectl(t.Context(), "exec", "client", "--", "true")
		return err
	})
	if _, err := n.Exec(t.Context(), "sh", "-c", "test ! -e /run/mark && test -e /etc/mark"); err != nil {
		t.Errorf("memory has to be gone and the disk to be there: %v", err)
	}
	kubectl(t, c, "rollout", "status", "deployment/echo", "--timeout="+patience.String())
	checkAcrossNodes(t, c)
}

// checkServiceRestart starts every service of a node again under running pods.
func checkServiceRestart(t *testing.T, c *cluster.Cluster) {
	restarts := func() string {
		return kubectl(t, c, "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].containerID}")
	}
	before := restarts()
	for _, name := range []string{cluster.Containerd, cluster.Kubelet, cluster.KubeProxy} {
		if err := c.Node(1).RestartService(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "exec to work again", func() error {
		_, err := c.Kubectl(t.Context(), "exec", "client", "--", "true")
		return err
	})
	if after := restarts(); after != before {
		t.Errorf("containers were %s, are %s", before, after)
	}
}
