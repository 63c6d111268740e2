package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"heddle.io/heddle/e2e/cluster"
	"heddle.io/heddle/install/client"
)

// bed is a control plane without nodes of its own, with Heddle's kinds and rights
// in it, and the controller as a process beside the API server.
type bed struct {
	cluster    *cluster.Cluster
	world      *world
	fleet      *fleet
	binary     string
	dir        string
	controller process
	admin      *client.Controller
	log        *os.File
}

// controllerAccount is what the controller is to the API server: its real
// ServiceAccount, with its real rights.
const controllerAccount = "heddle-controller"

// auditPolicy notes what the controller asks, and nobody else.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: Metadata
  users: ["system:serviceaccount:` + system + `:` + controllerAccount + `"]
  omitStages: [ResponseStarted, ResponseComplete, Panic]
- level: None
`

func newBed(ctx context.Context, o options) (b *bed, err error) {
	b = &bed{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.down())
			b = nil
		}
	}()
	binaries, err := cluster.Build(ctx, o.root, os.Stderr)
	if err != nil {
		return b, err
	}
	if b.binary, err = filepath.Abs(filepath.Join(o.bin, controllerAccount)); err != nil {
		return b, err
	}
	if b.dir, err = os.MkdirTemp("", "heddle-scale-kube-"); err != nil {
		return b, err
	}
	policy := filepath.Join(b.dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return b, err
	}
	b.cluster, err = cluster.Up(ctx, cluster.Options{
		Bin: binaries, Nodes: -1, Proxy: cluster.ProxyNone, Log: os.Stderr,
		APIServerArgs: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + b.auditLog(), "--audit-log-mode=blocking"},
	})
	if err != nil {
		return b, err
	}
	if err := b.apply(ctx, o); err != nil {
		return b, err
	}
	b.world = &world{shape: o.shape, spares: make(map[int]discoveryv1.Endpoint)}
	b.fleet = newFleet(b.cluster)
	b.world.api, err = b.client()
	return b, err
}

func (b *bed) auditLog() string   { return filepath.Join(b.dir, "audit.log") }
func (b *bed) kubeconfig() string { return filepath.Join(b.dir, "controller.conf") }

// apply brings in the kinds and the rights that an installation has.
func (b *bed) apply(ctx context.Context, o options) error {
	for _, path := range []string{
		o.path("api", "crd"), o.path("install", "manifests", "gateway"),
		o.path("install", "manifests", "base", "namespace.yaml"),
		o.path("install", "manifests", "base", "controller-rbac.yaml"),
		o.path("install", "manifests", "base", "agent-rbac.yaml"),
	} {
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		args := []string{"create", "-f", path}
		if _, err := os.Stat(filepath.Join(path, "kustomization.yaml")); err == nil {
			args[1] = "-k"
		}
		if _, err := b.cluster.Kubectl(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// client is this program's own client of the API server. Nothing holds it back.
func (b *bed) client() (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", b.cluster.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.Dial, config.QPS = b.cluster.DialContext, -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	return kubernetes.NewForConfig(config)
}

func (b *bed) down() error {
	if b.fleet != nil {
		b.fleet.stop()
	}
	var err error
	if b.controller.cmd != nil {
		err = b.controller.stop()
	}
	if b.cluster != nil {
		err = errors.Join(err, b.cluster.Down())
	}
	if b.log != nil {
		err = errors.Join(err, b.log.Close())
	}
	if b.dir != "" {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return err
}

// start starts the controller in the network of the API server.
func (b *bed) start(ctx context.Context) error {
	if err := b.writeKubeconfig(ctx); err != nil {
		return fmt.Errorf("kubeconfig of the controller: %w", err)
	}
	var err error
	if b.log, err = os.Create(filepath.Join(b.dir, "controller.log")); err != nil {
		return err
	}
	socket := filepath.Join(b.dir, "controller.sock")
	cmd := exec.Command(b.binary, "--source=kubernetes", "--kubeconfig="+b.kubeconfig(), "--namespace="+system, "--pod-name=scale-0",
		"--listen=0.0.0.0:"+xdsPort, "--admin=unix://"+socket, "--state-dir="+filepath.Join(b.dir, "state"))
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := b.cluster.StartCommand(cmd); err != nil {
		return err
	}
	b.controller, b.admin = newProcess(cmd), client.NewController(socket)
	return nil
}

// writeKubeconfig makes the controller its own ServiceAccount.
func (b *bed) writeKubeconfig(ctx context.Context) error {
	lifetime := int64(2 * 3600)
	token, err := b.world.api.CoreV1().ServiceAccounts(system).CreateToken(ctx, controllerAccount,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &lifetime}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	config, err := clientcmd.LoadFromFile(b.cluster.Kubeconfig())
	if err != nil {
		return err
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	}
	return clientcmd.WriteToFile(*config, b.kubeconfig())
}

// roots are what the controller published for agents to check it against.
func (b *bed) roots(ctx context.Context) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for limit := time.Now().Add(patience); ; {
		published, err := b.world.api.CoreV1().ConfigMaps(system).Get(ctx, "heddle-ca", metav1.GetOptions{})
		if err == nil && pool.AppendCertsFromPEM([]byte(published.Data["ca.pem"])) {
			return pool, nil
		}
		if time.Now().After(limit) {
			return nil, fmt.Errorf("the controller has published no authority (%w); its log ends with %s", err, b.logEnd())
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (b *bed) logEnd() string {
	text, err := os.ReadFile(b.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// Request is what the controller asked the API server, and how often.
type Request struct {
	Verb     string `json:"verb"`
	Resource string `json:"resource"`
	Count    int    `json:"count"`
}

// requests counts the lines of the audit log.
func (b *bed) requests() ([]Request, error) {
	f, err := os.Open(b.auditLog())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	counts := make(map[Request]int)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Verb      string
			ObjectRef struct{ Resource, Subresource string }
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, fmt.Errorf("the audit log: %w", err)
		}
		resource := event.ObjectRef.Resource
		if event.ObjectRef.Subresource != "" {
			resource += "/" + event.ObjectRef.Subresource
		}
		counts[Request{Verb: event.Verb, Resource: resource}]++
	}
	return ordered(counts), lines.Err()
}
