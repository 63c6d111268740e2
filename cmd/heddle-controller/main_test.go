package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"heddle.io/heddle/api/xds"
)

const (
	patience = time.Minute
	// asController makes the test's binary be the command.
	asController = "HEDDLE_TEST_CONTROLLER"
)

func TestMain(m *testing.M) {
	if os.Getenv(asController) != "" {
		main()
	}
	os.Exit(m.Run())
}

func execute(args ...string) (int, string) {
	c := root()
	var out bytes.Buffer
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(context.Background())
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	return exitCode(err), out.String()
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	here := []string{"--source=dir:" + dir, "--state-dir=" + dir, "--admin=unix://" + filepath.Join(dir, "a.sock"), "--listen=unix://" + filepath.Join(dir, "x.sock")}
	with := func(more ...string) []string { return append(slices.Clone(here), more...) }
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"help":              {[]string{"--help"}, 0, "--state-dir"},
		"version":           {[]string{"--version"}, 0, "heddle-controller version"},
		"unknown flag":      {[]string{"--sauce=x"}, exitUsage, "unknown flag"},
		"argument":          {[]string{"serve"}, exitUsage, "unexpected argument"},
		"source":            {with("--source=etcd"), exitUsage, "--source"},
		"no cluster":        {with("--source=kubernetes"), exitUsage, "--kubeconfig"},
		"plain TCP":         {with("--listen=0.0.0.0:15010"), exitUsage, "there is no TLS"},
		"log level":         {with("--log-level=loud"), exitUsage, "--log-level"},
		"log format":        {with("--log-format=xml"), exitUsage, "--log-format"},
		"half of TLS":       {with("--listen=0.0.0.0:1", "--tls-cert=x"), exitUsage, "go together"},
		"TLS files missing": {with("--listen=0.0.0.0:1", "--tls-cert=/none", "--tls-key=x", "--tls-ca=x"), exitUsage, "/none"},
		"socket":            {with("--admin=unix://" + file), exitEnvironment, "a file of another kind"},
	} {
		if code, out := execute(c.args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d, want %d with %q:\n%s", name, code, c.code, c.want, out)
		}
	}
}

// controller is the command as a process.
type controller struct {
	t                      *testing.T
	dir, objects, xds, api string
	process                *exec.Cmd
	log                    *os.File
}

func newController(t *testing.T) *controller {
	t.Helper()
	dir := t.TempDir()
	c := &controller{t: t, dir: dir, objects: filepath.Join(dir, "objects"), xds: filepath.Join(dir, "xds.sock"), api: filepath.Join(dir, "controller.sock")}
	var err error
	if c.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.objects, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.process != nil {
			c.kill()
		}
		if t.Failed() {
			text, _ := os.ReadFile(c.log.Name())
			t.Logf("log:\n%s", text)
		}
	})
	return c
}

func (c *controller) start(more ...string) {
	c.t.Helper()
	args := []string{"--source=dir:" + c.objects, "--listen=unix://" + c.xds, "--admin=unix://" + c.api, "--state-dir=" + filepath.Join(c.dir, "state")}
	c.process = exec.Command(os.Args[0], append(args, more...)...)
	c.process.Env = append(os.Environ(), asController+"=1")
	c.process.Stderr = c.log
	if err := c.process.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *controller) kill() {
	_ = c.process.Process.Kill()
	_ = c.process.Wait()
	c.process = nil
}

func (c *controller) write(name, text string) {
	c.t.Helper()
	path := filepath.Join(c.objects, name)
	if err := os.WriteFile(path+".tmp", []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		c.t.Fatal(err)
	}
}

// sync connects as a node that has these versions, and returns what it has after
// one answer for every type, and how many resources and removals were sent.
func (c *controller) sync(node string, has map[string]map[string]string) (map[string]map[string]string, int) {
	c.t.Helper()
	conn, err := grpc.NewClient("unix://"+c.xds, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: patience, Backoff: backoff.Config{BaseDelay: 2 * time.Millisecond, Multiplier: 1, MaxDelay: 2 * time.Millisecond}}))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	now, sent := make(map[string]map[string]string), 0
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, typeURL := range xds.Types {
		now[typeURL] = make(map[string]string)
		maps.Copy(now[typeURL], has[typeURL])
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: node}, TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: has[typeURL]}); err != nil {
			c.t.Fatal(err)
		}
	}
	for range xds.Types {
		response, err := stream.Recv()
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range response.Resources {
			now[response.TypeUrl][r.Name] = r.Version
			sent++
		}
		for _, name := range response.RemovedResources {
			delete(now[response.TypeUrl], name)
			sent++
		}
	}
	return now, sent
}

func objects(n int) string {
	text := "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {heddle.io/mesh: enabled}}}\n"
	for i := range n {
		text += fmt.Sprintf("---\n{apiVersion: v1, kind: Pod, metadata: {name: p%d, namespace: shop, labels: {app: a%d}}, spec: {nodeName: n%d, containers: []}, status: {podIP: 10.0.%d.%d, conditions: [{type: Ready, status: 'True'}]}}\n", i, i, i%2+1, i/200, i%200+1)
		text += fmt.Sprintf("---\n{apiVersion: v1, kind: Service, metadata: {name: s%d, namespace: shop}, spec: {clusterIP: 10.96.%d.%d, selector: {app: a%d}, ports: [{port: 80}]}}\n", i, i/200, i%200+1, i)
	}
	return text
}

// TestKillLoop: a controller that is killed again and again serves the same after
// each start, soon, and a node that was there is told only what changed.
func TestKillLoop(t *testing.T) {
	c := newController(t)
	const n = 20
	c.write("shop.yaml", objects(n))
	c.start()
	has, sent := c.sync("n1", nil)
	if want := 1 + n/2 + n + n; sent != want {
		t.Fatalf("%d resources, want %d", sent, want)
	}
	best, worst := time.Hour, time.Duration(0)
	for i := range 10 {
		c.kill()
		broken := i == 5
		if broken { // while nobody looks
			c.write("shop.yaml", objects(n)+"---\n{")
		}
		begin := time.Now()
		c.start()
		now, sent := c.sync("n1", has)
		best, worst = min(best, time.Since(begin)), max(worst, time.Since(begin))
		if sent != 0 || !maps.EqualFunc(now, has, maps.Equal) {
			t.Fatalf("start %d: %d resources sent again", i, sent)
		}
	}
	t.Logf("10 starts served after %s to %s", best, worst)
	if best > 300*time.Millisecond { // the fastest: the others may wait for a processor
		t.Errorf("no start served within 300 ms")
	}
	c.write("shop.yaml", objects(n-1))
	c.kill()
	c.start()
	if now, sent := c.sync("n1", has); sent != 2 || len(now[xds.ServiceType]) != n-1 {
		t.Errorf("%d resources sent, %d services, want the one that is gone and its cluster", sent, len(now[xds.ServiceType]))
	}
}

func TestTermination(t *testing.T) {
	c := newController(t)
	c.start()
	c.sync("n1", nil)
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.api)
		}}}
		response, err := client.Get("http://controller/v1/status")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if !bytes.Contains(body, []byte(`"kind":"dir"`)) {
			t.Errorf("status: %s", body)
		}
		if err := c.process.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := c.process.Wait(); err != nil {
			t.Errorf("%s: %v", signal, err)
		}
		for _, path := range []string{c.api, c.xds} {
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("%s is still there", path)
			}
		}
		c.start()
		c.sync("n1", nil)
	}
}
