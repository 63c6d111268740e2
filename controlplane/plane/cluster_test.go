package plane

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	rpcstatus "google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	clients "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/identity/mtls"
)

// These tests share a real API server, and make namespaces of their own.

var tcpRoutes = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "tcproutes"}

// kube is a namespace pair of a test, Heddle's and an application's.
type kube struct {
	t           *testing.T
	api         *rest.Config
	client      clients.Interface
	dynamic     dynamic.Interface
	system, app string
	replicas    []Config
}

func newKube(t *testing.T) *kube {
	t.Helper()
	api := apiServer(t)
	k := &kube{t: t, api: api}
	k.client, k.dynamic = clients.NewForConfigOrDie(api), dynamic.NewForConfigOrDie(api)
	k.system, k.app = k.namespace("system", nil), k.namespace("app", map[string]string{"heddle.io/mesh": "enabled"})
	for _, name := range []string{agentAccount, "default", "stranger"} {
		_, _ = k.client.CoreV1().ServiceAccounts(k.system).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		_, _ = k.client.CoreV1().ServiceAccounts(k.app).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	}
	return k
}

func (k *kube) namespace(kind string, labels map[string]string) string {
	k.t.Helper()
	made, err := k.client.CoreV1().Namespaces().Create(k.t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "heddle-test-" + kind + "-", Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		now := int64(0)
		_ = k.client.CoreV1().Namespaces().Delete(context.Background(), made.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	})
	return made.Name
}

// pod makes a pod of an account on a node, which is made too.
func (k *kube) pod(namespace, account, node string) *corev1.Pod {
	k.t.Helper()
	_, err := k.client.CoreV1().Nodes().Create(k.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	if err == nil {
		k.t.Cleanup(func() {
			_ = k.client.CoreV1().Nodes().Delete(context.Background(), node, metav1.DeleteOptions{})
		})
	}
	made, err := k.client.CoreV1().Pods(namespace).Create(k.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "p-"},
		Spec:       corev1.PodSpec{NodeName: node, ServiceAccountName: account, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	return made
}

// token returns a token of an account, bound to a pod unless that is nil.
func (k *kube) token(account, audience string, pod *corev1.Pod) string {
	k.t.Helper()
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if pod != nil {
		r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	r, err := k.client.CoreV1().ServiceAccounts(k.system).CreateToken(k.t.Context(), account, r, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	return r.Status.Token
}

// replica starts a controller, and waits until it serves.
func (k *kube) replica(pod string) (c Config, stop func()) {
	k.t.Helper()
	c = k.config(pod)
	p, err := New(k.t.Context(), c)
	if err != nil {
		k.t.Fatal(err)
	}
	return c, k.serve(p, c)
}

func (k *kube) config(pod string) Config {
	k.t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.t.Fatal(err)
	}
	free.Close()
	dir := k.t.TempDir()
	return Config{
		Source: Kubernetes, Listen: free.Addr().String(), Version: "v1-test",
		Admin: "unix://" + filepath.Join(dir, "controller.sock"), StateDir: dir,
		Cluster: &Cluster{API: k.api, Namespace: k.system, Pod: pod},
		Log:     slog.New(slog.NewTextHandler(k.t.Output(), nil)),
	}
}

// serve runs a controller until it is stopped, or its test ends.
func (k *kube) serve(p *Plane, c Config) (stop func()) {
	k.t.Helper()
	k.replicas = append(k.replicas, c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			k.t.Errorf("Run: %v", err)
		}
	})
	k.t.Cleanup(stop)
	until(k.t, c.Cluster.Pod+" is ready", func() bool { return p.ready() == nil })
	return stop
}

// open opens a stream of a node, and returns what it was answered first.
func (k *kube) open(c Config, node, token string) (stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, first *discovery.DeltaDiscoveryResponse, err error) {
	k.t.Helper()
	bundle, err := k.client.CoreV1().ConfigMaps(k.system).Get(k.t.Context(), "heddle-ca", metav1.GetOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	file := filepath.Join(k.t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(bundle.Data["ca.pem"]), 0o600); err != nil {
		k.t.Fatal(err)
	}
	authority, err := mtls.LoadAuthority(file)
	if err != nil {
		k.t.Fatal(err)
	}
	conn, err := grpc.NewClient(c.Listen, grpc.WithTransportCredentials(credentials.NewTLS(authority.Client("heddle-controller."+k.system+".svc"))))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { conn.Close() })
	ctx := k.t.Context()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	stream, err = discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, typeURL := range xds.Types {
		_ = stream.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: node}, TypeUrl: typeURL, ResourceNamesSubscribe: []string{"*"}})
	}
	first, err = stream.Recv()
	return stream, first, err
}

// node is a node that acknowledges everything until its test ends.
func (k *kube) node(c Config, name string) {
	k.t.Helper()
	stream, response, err := k.open(c, name, k.token(agentAccount, "heddle", k.pod(k.system, agentAccount, name)))
	if err != nil {
		k.t.Fatal(err)
	}
	go func() {
		for err == nil {
			_ = stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce})
			response, err = stream.Recv()
		}
	}()
}

// TestNodesAreKnown: a stream is served when its token is that of the agent on the
// node that it says it is.
func TestNodesAreKnown(t *testing.T) {
	k := newKube(t)
	c, _ := k.replica("one")
	agent := k.pod(k.system, agentAccount, "heddle-test-n1")
	good := k.token(agentAccount, "heddle", agent)
	if _, _, err := k.open(c, "heddle-test-n1", good); err != nil {
		t.Errorf("the agent: %v", err)
	}
	for name, c2 := range map[string]struct {
		node, token string
		code        codes.Code
		want        string
	}{
		"no token":          {"heddle-test-n1", "", codes.Unauthenticated, "--token-file"},
		"no token at all":   {"heddle-test-n1", "x.y.z", codes.Unauthenticated, "does not accept"},
		"another audience":  {"heddle-test-n1", k.token(agentAccount, "https://kubernetes.default.svc", agent), codes.Unauthenticated, "audience heddle"},
		"another account":   {"heddle-test-n1", k.token("stranger", "heddle", k.pod(k.system, "stranger", "heddle-test-n1")), codes.PermissionDenied, "only system:serviceaccount:" + k.system + ":heddle-agent"},
		"an unbound token":  {"heddle-test-n1", k.token(agentAccount, "heddle", nil), codes.PermissionDenied, "not bound"},
		"another node's id": {"heddle-test-n2", good, codes.PermissionDenied, `node "heddle-test-n1", and the request says node "heddle-test-n2"`},
	} {
		_, _, err := k.open(c, c2.node, c2.token)
		if rpcstatus.Code(err) != c2.code || !strings.Contains(err.Error(), c2.want) {
			t.Errorf("%s: %v; want %s with %q", name, err, c2.code, c2.want)
		}
	}
	_, text := ask(t, c, "GET", "/metrics")
	for _, line := range []string{`refused_total{reason="bad_token"} 2`, `refused_total{reason="wrong_node"} 1`, `refused_total{reason="no_token"} 1`} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s in the metrics", line)
		}
	}
	var refused int
	for _, p := range status(t, c).Problems {
		if p.Reason == "NodeRefused" {
			refused++
		}
	}
	if refused == 0 {
		t.Error("status tells of no refusal")
	}
}

// TestAuthorityIsShared: controllers that start together agree on an authority,
// bring its ConfigMap back, and never write over a Secret that they cannot use.
func TestAuthorityIsShared(t *testing.T) {
	k := newKube(t)
	a, b := k.config("one"), k.config("two")
	var planes [2]*Plane
	var together errgroup.Group
	for i, c := range []Config{a, b} {
		together.Go(func() (err error) {
			planes[i], err = New(t.Context(), c)
			return err
		})
	}
	if err := together.Wait(); err != nil {
		t.Fatal(err)
	}
	k.serve(planes[0], a)
	k.serve(planes[1], b)
	token := k.token(agentAccount, "heddle", k.pod(k.system, agentAccount, "heddle-test-n1"))
	for _, c := range []Config{a, b} {
		if _, _, err := k.open(c, "heddle-test-n1", token); err != nil {
			t.Fatal(err)
		}
	}
	maps := k.client.CoreV1().ConfigMaps(k.system)
	m, err := maps.Get(t.Context(), "heddle-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := k.client.CoreV1().Secrets(k.system).Get(t.Context(), "heddle-controller-ca", metav1.GetOptions{})
	if err != nil || string(secret.Data["tls.crt"]) != m.Data["ca.pem"] || !x509.NewCertPool().AppendCertsFromPEM([]byte(m.Data["ca.pem"])) {
		t.Fatalf("Secret and ConfigMap differ: %v", err)
	}
	secret.Data["tls.crt"] = []byte("spoiled")
	if _, err := k.client.CoreV1().Secrets(k.system).Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(t.Context(), "heddle-ca", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the ConfigMap is back and the Secret is a problem", func() bool {
		again, err := maps.Get(t.Context(), "heddle-ca", metav1.GetOptions{})
		return err == nil && again.Data["ca.pem"] == m.Data["ca.pem"] && hasProblem(t, a, "AuthorityUnusable") && hasProblem(t, b, "AuthorityUnusable")
	})
	if now, err := k.client.CoreV1().Secrets(k.system).Get(t.Context(), "heddle-controller-ca", metav1.GetOptions{}); err != nil || string(now.Data["tls.crt"]) != "spoiled" {
		t.Errorf("the Secret was written over: %v", err)
	}
	if _, _, err := k.open(a, "heddle-test-n1", token); err != nil {
		t.Errorf("the authority in use has to stay: %v", err)
	}
}

func hasProblem(t *testing.T, c Config, reason string) bool {
	for _, p := range status(t, c).Problems {
		if p.Reason == reason {
			return true
		}
	}
	return false
}

// shop makes a Service with a route that sends its connections to itself.
func (k *kube) shop() {
	k.t.Helper()
	_, err := k.client.CoreV1().Services(k.app).Create(k.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	route := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute",
		"metadata": map[string]any{"name": "canary", "namespace": k.app},
		"spec": map[string]any{
			"parentRefs": []any{map[string]any{"group": "", "kind": "Service", "name": "web"}, map[string]any{"name": "gateway"}},
			"rules":      []any{map[string]any{"backendRefs": []any{map[string]any{"name": "web", "port": int64(80)}}}},
		},
	}}
	if _, err := k.dynamic.Resource(tcpRoutes).Namespace(k.app).Create(k.t.Context(), route, metav1.CreateOptions{}); err != nil {
		k.t.Fatal(err)
	}
	foreign := `{"status":{"parents":[{"parentRef":{"name":"gateway"},"controllerName":"example.com/other","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}]}}`
	if _, err := k.dynamic.Resource(tcpRoutes).Namespace(k.app).Patch(k.t.Context(), "canary", types.MergePatchType, []byte(foreign), metav1.PatchOptions{}, "status"); err != nil {
		k.t.Fatal(err)
	}
}

// route returns the status of the route in words.
func (k *kube) route() string {
	live, err := k.dynamic.Resource(tcpRoutes).Namespace(k.app).Get(k.t.Context(), "canary", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	var out []string
	entries, _, _ := unstructured.NestedSlice(live.Object, "status", "parents")
	for _, e := range entries {
		e := e.(map[string]any)
		text := fmt.Sprint(e["controllerName"])
		for _, c := range e["conditions"].([]any) {
			c := c.(map[string]any)
			text += fmt.Sprintf(" %s=%s(%s)", c["type"], c["status"], c["message"])
		}
		out = append(out, text)
	}
	return strings.Join(out, " | ")
}

const foreignEntry = "example.com/other Accepted=True()"

func (k *kube) awaitRoute(want string) {
	k.t.Helper()
	last := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if last = k.route(); last == want {
			return
		}
	}
	for _, c := range k.replicas {
		s := status(k.t, c)
		k.t.Logf("%s: objects %v, problems %+v", c.Cluster.Pod, s.Objects, s.Problems)
	}
	k.t.Fatalf("the route says\n%s, want\n%s", last, want)
}

// TestStatus: the leader counts the nodes of every controller, and hands over.
func TestStatus(t *testing.T) {
	k := newKube(t)
	k.shop()
	for _, node := range []string{"heddle-test-n1", "heddle-test-n2"} {
		k.pod(k.app, "default", node)
	}
	one, stopOne := k.replica("one")
	k.node(one, "heddle-test-n1")
	ours := func(programmed, count string) string {
		return foreignEntry + " | heddle.io/controller Accepted=True() ResolvedRefs=True() Programmed=" + programmed + "(" + count + ")"
	}
	k.awaitRoute(ours("False", "1/2 nodes; waiting for heddle-test-n2"))
	two, _ := k.replica("two")
	k.node(two, "heddle-test-n2")
	k.awaitRoute(ours("True", "2/2 nodes"))

	live, err := k.dynamic.Resource(tcpRoutes).Namespace(k.app).Get(t.Context(), "canary", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	again, err := k.dynamic.Resource(tcpRoutes).Namespace(k.app).Get(t.Context(), "canary", metav1.GetOptions{})
	if err != nil || again.GetResourceVersion() != live.GetResourceVersion() {
		t.Errorf("written though nothing changed: %v", err)
	}

	// The other leads when the first is gone; its node comes to it.
	stopOne()
	k.node(two, "heddle-test-n1")
	patch := `{"spec":{"rules":[{"backendRefs":[{"name":"web","port":80},{"name":"none","port":80}]}]}}`
	if _, err := k.dynamic.Resource(tcpRoutes).Namespace(k.app).Patch(t.Context(), "canary", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	k.awaitRoute(foreignEntry + " | heddle.io/controller Accepted=True() ResolvedRefs=False(backendRef " + k.app + "/none:80: there is no such Service; its share of the connections is refused) Programmed=True(2/2 nodes)")

	// A parent that the route drops takes its entry along.
	patch = `{"spec":{"parentRefs":[{"name":"gateway"}]}}`
	if _, err := k.dynamic.Resource(tcpRoutes).Namespace(k.app).Patch(t.Context(), "canary", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	k.awaitRoute(foreignEntry)
}
