package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A process is one of the control plane's.
type process struct {
	name string
	args []string
	log  string

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{}
}

func (p *process) start(t *thread) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("%s runs already", p.name)
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = out, out, filepath.Dir(p.log), environment()
	if err := t.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	gone := make(chan struct{})
	p.cmd, p.gone = cmd, gone
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(gone)
	}()
	return nil
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// stop ends the process by these signals, each a few seconds after the one
// before: etcd with open watches does not end before its second.
func (p *process) stop(signals ...unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, signal := range signals {
		if !p.running() {
			return nil
		}
		limit := 5 * time.Second
		if signal == unix.SIGKILL {
			limit = patience // nothing outlives it, but a busy machine takes its time
		}
		_ = p.cmd.Process.Signal(signal) // an error says that it has just ended
		select {
		case <-p.gone:
			return nil
		case <-time.After(limit):
		}
	}
	return fmt.Errorf("%s does not end", p.name)
}

// environment is this process's, without the proxies of the surroundings:
// everything in a cluster talks inside its namespaces.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			env = append(env, v)
		}
	}
	return env
}

// controllers that tests need. All of them, each with a service account of its
// own at 20 requests a second, take 6 to 9 s until the first pod can start.
var controllers = []string{
	"serviceaccount-controller", "serviceaccount-token-controller", "root-ca-certificate-publisher-controller",
	"clusterrole-aggregation-controller", "namespace-controller", "garbage-collector-controller",
	"pod-garbage-collector-controller", "node-lifecycle-controller", "taint-eviction-controller",
	"deployment-controller", "replicaset-controller", "daemonset-controller", "statefulset-controller",
	"job-controller", "disruption-controller",
	"endpoints-controller", "endpointslice-controller", "endpointslice-mirroring-controller",
}

func (c *Cluster) controlPlane() []*process {
	o, keys := &c.options, c.keys
	const etcd, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []*process{
		c.process(Etcd, append([]string{
			"--data-dir=" + filepath.Join(o.Dir, "etcd"), "--unsafe-no-fsync",
			"--listen-client-urls=" + etcd, "--advertise-client-urls=" + etcd,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
		}, o.EtcdArgs...)),
		c.process(APIServer, append([]string{
			"--etcd-servers=" + etcd, "--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address=" + ControlPlane,
			"--service-cluster-ip-range=" + join(o.DualStack, services, services6),
			"--tls-cert-file=" + keys.file("apiserver.crt"), "--tls-private-key-file=" + keys.file("apiserver.key"),
			"--token-auth-file=" + keys.file("tokens.csv"), "--client-ca-file=" + keys.file("ca.crt"),
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + keys.file("sa.pub"), "--service-account-signing-key-file=" + keys.file("sa.key"),
			// exec and logs look up the node's name in DNS otherwise.
			"--kubelet-preferred-address-types=InternalIP",
			// There is no kube-proxy here: it has to dial the endpoints of Services itself.
			"--enable-aggregator-routing=true", "--profiling=false",
			// Told to end, it waits for its watches, which never end by themselves.
			"--shutdown-watch-termination-grace-period=1s",
		}, o.APIServerArgs...)),
		c.process(ControllerManager, append([]string{
			"--kubeconfig=" + keys.kubeconfig("admin"), "--leader-elect=false", "--profiling=false",
			"--kube-api-qps=500", "--kube-api-burst=500", "--controllers=" + strings.Join(controllers, ","),
			"--root-ca-file=" + keys.file("ca.crt"), "--service-account-private-key-file=" + keys.file("sa.key"),
		}, o.ControllerManagerArgs...)),
		c.process(Scheduler, []string{
			"--kubeconfig=" + keys.kubeconfig("scheduler"), "--leader-elect=false", "--profiling=false",
		}),
	}
}

// process is a program of the binaries' directory, in the control plane.
func (c *Cluster) process(name string, args []string) *process {
	return &process{
		name: name, args: append([]string{filepath.Join(c.options.Bin, name)}, args...),
		log: filepath.Join(c.Logs(), name+".log"),
	}
}

// Stop ends a process of the control plane as an upgrade would.
func (c *Cluster) Stop(name string) error {
	return c.withProcess(name, func(p *process) error { return p.stop(unix.SIGTERM, unix.SIGKILL) })
}

// Crash kills a process of the control plane.
func (c *Cluster) Crash(name string) error {
	return c.withProcess(name, func(p *process) error { return p.stop(unix.SIGKILL) })
}

// Start starts a process of the control plane again.
func (c *Cluster) Start(ctx context.Context, name string) error {
	if err := c.withProcess(name, func(p *process) error { return p.start(c.thread) }); err != nil {
		return err
	}
	if name == Etcd || name == APIServer {
		return c.waitAPI(ctx)
	}
	return nil
}

// Restart ends a process of the control plane, starts it again, and waits for
// the API server to answer when it is one of those that matter to it.
func (c *Cluster) Restart(ctx context.Context, name string) error {
	if err := c.Stop(name); err != nil {
		return err
	}
	return c.Start(ctx, name)
}

func (c *Cluster) withProcess(name string, f func(*process) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.processes {
		if p.name == name {
			return f(p)
		}
	}
	return fmt.Errorf("no process %s is in the control plane", name)
}
