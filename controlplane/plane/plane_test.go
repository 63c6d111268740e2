package plane

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/xds"
)

// patience bounds every wait: longer than anything takes, on any machine.
const patience = 3 * time.Minute

func config(t *testing.T) Config {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "objects"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Config{
		Source:   "dir:" + filepath.Join(dir, "objects"),
		Listen:   "unix://" + filepath.Join(dir, "run", "xds.sock"),
		Admin:    "unix://" + filepath.Join(dir, "run", "controller.sock"),
		StateDir: filepath.Join(dir, "state"),
		Version:  "v1-test",
	}
}

// run starts a control plane and stops it at the end of the test.
func run(t *testing.T, c Config) *Plane {
	t.Helper()
	p, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

// client speaks HTTP over the admin socket.
func client(c Config) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(c.Admin, "unix://"))
		}}}
}

func ask(t *testing.T, c Config, method, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(method, "http://controller"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client(c).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func status(t *testing.T, c Config) admin.ControllerStatus {
	t.Helper()
	code, body := ask(t, c, http.MethodGet, "/v1/status")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	var s admin.ControllerStatus
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

func write(t *testing.T, c Config, name, text string) {
	t.Helper()
	path := filepath.Join(strings.TrimPrefix(c.Source, "dir:"), name)
	if err := os.WriteFile(path+".tmp", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

const objectsText = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {heddle.io/mesh: enabled}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: shop}, spec: {nodeName: n1, containers: []}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: lost, namespace: shop}, spec: {parentRefs: [{group: "", kind: Service, name: gone}], rules: [{backendRefs: [{name: web, port: 80}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: bad, namespace: shop}, spec: {clusterIP: nowhere, ports: [{port: 80}]}}
`

func TestFromFileToNode(t *testing.T) {
	c := config(t)
	write(t, c, "shop.yaml", objectsText)
	run(t, c)
	stream, received := subscribe(t, c, "n1")
	if got := received(xds.ServiceType); got != "shop/web" {
		t.Errorf("services: %q", got)
	}
	write(t, c, "more.yaml", "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: 10.96.0.2, ports: [{port: 5432}]}}")
	begin := time.Now()
	if got := received(xds.ServiceType); got != "shop/db" {
		t.Errorf("services: %q", got)
	}
	t.Logf("a file reached the node in %s", time.Since(begin))

	s := status(t, c)
	if s.Version != "v1-test" || s.Source.Kind != "dir" || s.Source.Path != strings.TrimPrefix(c.Source, "dir:") || s.Source.Error != "" || s.Started.IsZero() {
		t.Errorf("status %+v", s)
	}
	want := []admin.Count{{Name: "Namespace", Count: 1}, {Name: "Node"}, {Name: "Pod", Count: 1}, {Name: "Service", Count: 2}, {Name: "EndpointSlice"}, {Name: "TCPRoute", Count: 1},
		{Name: "TLSRoute"}, {Name: "HTTPRoute"}, {Name: "GRPCRoute"}, {Name: "ReferenceGrant"}, {Name: "TrafficPolicy"}, {Name: "ExternalService"}}
	if !slices.Equal(s.Objects, want) {
		t.Errorf("objects %v, want %v", s.Objects, want)
	}
	var problems []string
	for _, p := range s.Problems {
		problems = append(problems, p.Object+" "+p.Reason)
		if p.Since.IsZero() || time.Since(p.Since) > patience || p.Detail == "" {
			t.Errorf("problem %+v", p)
		}
	}
	if want := []string{"Service shop/bad Invalid", "TCPRoute shop/lost NoMatchingParent"}; !slices.Equal(problems, want) {
		t.Errorf("problems %q, want %q", problems, want)
	}
	if len(s.Nodes) != 1 || s.Nodes[0].Node != "n1" || s.Nodes[0].Resources != 6 || s.Encoded != 6 || s.Sent != 6 || s.Batches != 2 {
		t.Errorf("nodes %+v, batches %d, encoded %d, sent %d", s.Nodes, s.Batches, s.Encoded, s.Sent)
	}

	// A refusal is a problem until the node is content.
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.ServiceType, ResponseNonce: "1", ErrorDetail: &rpcstatus.Status{Message: "shop/web: no"}}); err != nil {
		t.Fatal(err)
	}
	refused := func() bool {
		return slices.ContainsFunc(status(t, c).Problems, func(p admin.Problem) bool {
			return p.Object == "Node n1" && p.Reason == "ResourceRefused" && strings.Contains(p.Detail, "type Service: shop/web: no")
		})
	}
	until(t, "a refusal is shown", refused)
	if n := status(t, c).Nodes[0]; n.Nacks != 1 || n.LastNack == nil || n.LastNack.Type != "Service" || n.LastNack.Error != "shop/web: no" {
		t.Errorf("node %+v", n)
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.ServiceType, ResponseNonce: "2"}); err != nil {
		t.Fatal(err)
	}
	until(t, "the refusal is over", func() bool { return !refused() })
}

// subscribe opens a stream of a node. received waits for a response of a type with
// something in it and returns the names.
func subscribe(t *testing.T, c Config, name string) (grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse], func(string) string) {
	t.Helper()
	conn, err := grpc.NewClient(c.Listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(func() { cancel(); conn.Close() })
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, typeURL := range xds.Types {
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: name}, TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}}); err != nil {
			t.Fatal(err)
		}
	}
	return stream, func(typeURL string) string {
		t.Helper()
		for {
			response, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}); err != nil {
				t.Fatal(err)
			}
			if response.TypeUrl == typeURL && len(response.Resources) > 0 {
				var names []string
				for _, r := range response.Resources {
					names = append(names, r.Name)
				}
				return strings.Join(names, " ")
			}
		}
	}
}

func TestSourceVanishes(t *testing.T) {
	c := config(t)
	write(t, c, "shop.yaml", objectsText)
	run(t, c)
	until(t, "objects are read", func() bool { return status(t, c).Objects[3].Count == 1 })
	since := status(t, c).Problems[0].Since
	dir := strings.TrimPrefix(c.Source, "dir:")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	until(t, "the source is away", func() bool { return status(t, c).Source.Error != "" })
	s := status(t, c)
	if s.Objects[3].Count != 1 || !strings.Contains(s.Source.Error, "create it, or correct --source") || s.Problems[0].Reason != "Invalid" || !s.Problems[0].Since.Equal(since) {
		t.Errorf("status %+v", s)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	until(t, "the source is back", func() bool { return status(t, c).Source.Error == "" })
}

func TestAdminAPI(t *testing.T) {
	c := config(t)
	run(t, c)
	for _, q := range []struct {
		method, path string
		code         int
		says         string
	}{
		{"GET", "/v1/nothing", 404, `{"error":"no such path \"/v1/nothing\""}`},
		{"POST", "/v1/status", 405, `{"error":"POST is not possible on \"/v1/status\""}`},
		{"DELETE", "/metrics", 405, `is not possible`},
	} {
		if code, body := ask(t, c, q.method, q.path); code != q.code || !strings.Contains(body, q.says) {
			t.Errorf("%s %s: %d %s", q.method, q.path, code, body)
		}
	}
	for _, address := range []string{c.Admin, c.Listen} {
		info, err := os.Stat(strings.TrimPrefix(address, "unix://"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", address, info.Mode(), err)
		}
	}
}

// TestMetrics: what is exported is what metrics.md says.
func TestMetrics(t *testing.T) {
	c := config(t)
	write(t, c, "shop.yaml", objectsText)
	run(t, c)
	until(t, "objects are read", func() bool { return status(t, c).Objects[3].Count == 1 })
	_, text := ask(t, c, http.MethodGet, "/metrics")
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var exported, documented []string
	for _, m := range regexp.MustCompile(`(?m)^# HELP (heddle_\S+) (.*)\n# TYPE \S+ (\S+)$`).FindAllStringSubmatch(text, -1) {
		exported = append(exported, strings.Join(m[1:], "|"))
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(heddle_\\S+)` \\| (\\S+) \\|[^|]*\\| (.*) \\|$").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, strings.Join([]string{m[1], m[3], m[2]}, "|"))
	}
	slices.Sort(exported)
	slices.Sort(documented)
	if !slices.Equal(exported, documented) || len(exported) == 0 {
		t.Errorf("exported:\n%s\ndocumented:\n%s", strings.Join(exported, "\n"), strings.Join(documented, "\n"))
	}
	for _, line := range []string{
		`heddle_controller_objects{kind="Service"} 1`, `heddle_controller_problems{reason="Invalid"} 1`,
		"heddle_controller_source_up 1", "heddle_controller_change_seconds_count 1", `heddle_controller_build_info{go="`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Config{Source: "dir:x", Listen: DefaultListen, Admin: DefaultAdmin, StateDir: "/x"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Config{Source: "x", Listen: "x", Admin: "unix://x", StateDir: "x"}
	err := bad.Validate()
	for _, flag := range []string{"--source", "--listen", "--admin", "--state-dir"} {
		if err == nil || !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not in: %v", flag, err)
		}
	}
	with := func(change func(*Config)) error { c := good; change(&c); return c.Validate() }
	for listen, says := range map[string]string{
		"127.0.0.1:15010": "", "[::1]:15010": "",
		"0.0.0.0:15010":                       "there is no TLS",
		":15010":                              "there is no TLS",
		"[::]:15010":                          "there is no TLS",
		"192.0.2.1:15010":                     "there is no TLS",
		"localhost:15010":                     "there is no TLS", // a name may lead anywhere
		"127.0.0.1:0":                         "give one",
		"127.0.0.1:http":                      "not a port number",
		"127.0.0.1":                           "neither",
		"unix://run/x":                        "absolute path",
		DefaultAdmin:                          "the same socket",
		"unix:///" + strings.Repeat("x", 110): "at most 107 bytes",
	} {
		err := with(func(c *Config) { c.Listen = listen })
		if (says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("--listen=%.40s: %v, want %q", listen, err, says)
		}
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS13}
	if err := with(func(c *Config) { c.Listen, c.TLS = "0.0.0.0:15010", tlsConfig }); err != nil {
		t.Error(err)
	}
	if err := with(func(c *Config) { c.TLS = tlsConfig }); err == nil || !strings.Contains(err.Error(), "do not apply") {
		t.Errorf("TLS on a unix socket: %v", err)
	}
}

// TestProblemsAreLoggedOnce: not at each change, and their end is logged too.
func TestProblemsAreLoggedOnce(t *testing.T) {
	c := config(t)
	var log synchronized
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	write(t, c, "bad.yaml", "{apiVersion: v1, kind: Service, metadata: {name: bad, namespace: shop}, spec: {clusterIP: nowhere, ports: [{port: 80}]}}")
	run(t, c)
	until(t, "the problem is logged", func() bool { return strings.Contains(log.String(), "reason=Invalid") })
	write(t, c, "x.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: x}}")
	until(t, "the change is seen", func() bool { return status(t, c).Objects[0].Count == 1 })
	write(t, c, "bad.yaml", "")
	until(t, "its end is logged", func() bool { return strings.Contains(log.String(), `msg="problem is gone" object="Service shop/bad"`) })
	if n := strings.Count(log.String(), "msg=problem "); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
}

type synchronized struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *synchronized) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *synchronized) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
