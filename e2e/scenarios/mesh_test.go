package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/nettest"
	"heddle.io/heddle/e2e/peer"
	"heddle.io/heddle/install/sandbox"
)

// patience bounds every wait: long enough for a machine that does other things,
// and never the time that anything should take.
const patience = 2 * time.Minute

// A mesh is a running sandbox of one test.
type mesh struct {
	*sandbox.Sandbox
	t *testing.T
}

// up brings a sandbox up, applies YAML files and takes it down at the end. The
// name is this package's, so that it never meets the one of `heddlectl sandbox`.
func up(t *testing.T, files ...string) *mesh {
	t.Helper()
	return upWith(t, sandbox.Options{}, files...)
}

func upWith(t *testing.T, o sandbox.Options, files ...string) *mesh {
	t.Helper()
	nettest.RequireBPF(t)
	o.Name, o.Bin = "heddle-e2e", bin
	s, err := sandbox.New(o)
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{s, t}
	m.must(s.Down(t.Context())) // of a run that was killed
	t.Cleanup(func() {
		if t.Failed() {
			m.showLogs()
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Down(ctx); err != nil {
			t.Errorf("take the sandbox down: %v", err)
		}
	})
	m.must(s.Up(t.Context()))
	var all bytes.Buffer
	for _, name := range files {
		text, err := os.ReadFile(name)
		m.must(err)
		fmt.Fprintf(&all, "---\n%s\n", text)
	}
	m.apply(all.String())
	return m
}

// in is the mesh for a subtest.
func (m *mesh) in(t *testing.T) *mesh { return &mesh{m.Sandbox, t} }

func (m *mesh) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// showLogs shows what the daemons said, shortened.
func (m *mesh) showLogs() {
	for _, of := range append(m.Nodes(), "controller") {
		path, err := m.Log(of)
		if err != nil {
			continue
		}
		text, _ := os.ReadFile(path)
		if most := 4000; len(text) > most {
			text = text[len(text)-most:]
		}
		m.t.Logf("log of %s:\n%s", of, text)
	}
}

// apply makes objects so, as heddlectl sandbox apply does.
func (m *mesh) apply(manifest string) {
	m.t.Helper()
	_, err := m.Apply(m.t.Context(), []byte(manifest))
	m.must(err)
}

// file puts a file before the controller as it is, past the sandbox's own checks.
func (m *mesh) file(name, text string) {
	m.t.Helper()
	tmp := filepath.Join(m.Dir(), ".new-"+name)
	m.must(os.WriteFile(tmp, []byte(text), 0o600))
	m.must(os.Rename(tmp, filepath.Join(m.ObjectsDir(), name)))
}

func (m *mesh) removeFile(name string) {
	m.t.Helper()
	m.must(os.Remove(filepath.Join(m.ObjectsDir(), name)))
}

// result is what a client counted.
type result peer.Result

// err says what went wrong, nil: every connection was made.
func (r *result) err() error {
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d connections failed: %v", r.Failed, r.Failed+r.Connections, r.Errors)
	}
	return nil
}

// A client is a peer that runs in a pod.
type client struct {
	m    *mesh
	pod  string
	args []string
	cmd  *sandbox.Cmd
	out  bytes.Buffer
	errs bytes.Buffer
}

func (c *client) String() string { return c.pod + " " + strings.Join(c.args, " ") }

// start runs a peer in a pod ("namespace/name"), or on a node ("node1").
func (m *mesh) start(where string, args ...string) *client {
	m.t.Helper()
	c := &client{m: m, pod: where, args: args}
	argv := append([]string{"peer"}, args...)
	var err error
	if namespace, name, ok := strings.Cut(where, "/"); ok {
		c.cmd, err = m.Command(m.t.Context(), namespace, name, argv...)
	} else {
		c.cmd, err = m.NodeCommand(m.t.Context(), where, argv...)
	}
	m.must(err)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.errs
	m.must(c.cmd.Start())
	return c
}

// wait waits for the peer's own end.
func (c *client) wait() *result {
	c.m.t.Helper()
	if err := c.cmd.Wait(); err != nil {
		c.m.t.Fatalf("%s: %v: %s", c, err, c.errs.Bytes())
	}
	var r result
	if err := json.Unmarshal(c.out.Bytes(), &r); err != nil {
		c.m.t.Fatalf("%s: %v in %q", c, err, c.out.Bytes())
	}
	return &r
}

// stop ends the peer and returns what it counted until then.
func (c *client) stop() *result {
	c.m.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.m.t.Fatal(err)
	}
	return c.wait()
}

// peer runs a peer to its end.
func (m *mesh) peer(where string, args ...string) *result {
	m.t.Helper()
	return m.start(where, args...).wait()
}

// reach makes n connections, all of which must succeed.
func (m *mesh) reach(where string, n int, to string, flags ...string) *result {
	m.t.Helper()
	args := append([]string{"dial", fmt.Sprintf("-n=%d", n)}, flags...)
	res := m.peer(where, append(args, to)...)
	if err := res.err(); err != nil {
		m.t.Fatalf("%s to %s: %v", where, to, err)
	}
	return res
}

// refused makes n connections, all of which must fail with an error.
func (m *mesh) refused(where string, n int, to, want string, flags ...string) {
	m.t.Helper()
	args := append([]string{"dial", fmt.Sprintf("-n=%d", n)}, flags...)
	res := m.peer(where, append(args, to)...)
	if res.Errors[want] != n || res.Connections != 0 {
		m.t.Errorf("%s to %s: %d of %d connections made, errors %v; want %d of %s", where, to, res.Connections, n, res.Errors, n, want)
	}
}

// eventually waits until check has no complaint.
func (m *mesh) eventually(what string, check func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			m.t.Fatalf("%s: %v", what, err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// service finds a service port ("namespace/name") that a node's kernel has; port
// 0 is the first.
func (m *mesh) service(node, name string, port uint16) (*admin.Service, error) {
	all, err := m.Agent(node).Services(m.t.Context())
	if err != nil {
		return nil, err
	}
	for i, s := range all {
		if s.Namespace+"/"+s.Name == name && s.Scope == "" && (port == 0 || s.Port == port) {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("%s does not know service %s", node, name)
}

// waitKnown waits until both nodes know the services, with endpoints or without.
func (m *mesh) waitKnown(names ...string) {
	m.t.Helper()
	for _, node := range m.Nodes() {
		for _, name := range names {
			m.eventually("service "+name+" on "+node, func() error {
				_, err := m.service(node, name, 0)
				return err
			})
		}
	}
}

// waitServices waits until clients on both nodes get through to the services.
func (m *mesh) waitServices(names ...string) {
	m.t.Helper()
	for _, node := range m.Nodes() {
		for _, name := range names {
			m.eventually("service "+name+" on "+node, func() error {
				s, err := m.service(node, name, 0)
				if err != nil {
					return err
				}
				return served(s)
			})
		}
	}
}

// served fails for a service of which a share would be refused: a node hears of
// services and of endpoints one after the other.
func served(s *admin.Service) error {
	for _, b := range s.Backends {
		if b.Weight > 0 && len(b.Endpoints) == 0 {
			return fmt.Errorf("%s has no endpoint", b.Backend)
		}
	}
	if len(s.Backends) == 0 {
		return errors.New("it has no backend")
	}
	return nil
}

// waitWeights waits until both kernels have these weights for the first port of
// a service.
func (m *mesh) waitWeights(name string, want []int) {
	m.t.Helper()
	for _, node := range m.Nodes() {
		m.eventually(fmt.Sprintf("weights %v of %s on %s", want, name, node), func() error {
			s, err := m.service(node, name, 0)
			if err != nil {
				return err
			}
			var got []int
			for _, b := range s.Backends {
				got = append(got, int(b.Weight))
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("the weights are %v", got)
			}
			return served(s)
		})
	}
}

// startAgents starts the agents that do not run; binary "" is the usual one.
func (m *mesh) startAgents(binary string) {
	m.t.Helper()
	for _, node := range m.Nodes() {
		m.must(m.StartAgent(m.t.Context(), node, binary))
	}
}

// reasons are a node's counters by reason code.
func (m *mesh) reasons(node string) map[string]uint64 {
	m.t.Helper()
	var status *admin.AgentStatus
	m.eventually("the counters of "+node, func() (err error) {
		status, err = m.Agent(node).Status(m.t.Context())
		return err
	})
	counts := map[string]uint64{}
	for _, c := range status.Reasons {
		counts[c.Name] = c.Count
	}
	return counts
}

// podIP is a pod's address of a family.
func (m *mesh) podIP(pod string, v6 bool) string {
	m.t.Helper()
	namespace, name, _ := strings.Cut(pod, "/")
	p, err := m.Pod(namespace, name)
	m.must(err)
	for _, a := range p.Addresses {
		if a.Is6() == v6 {
			return a.String()
		}
	}
	m.t.Fatalf("pod %s has addresses %v", pod, p.Addresses)
	return ""
}

// ctl runs heddlectl for this sandbox and returns all it says. What it returns
// (an exit code other than 0 included) is for the test to judge.
func (m *mesh) ctl(args ...string) string {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), filepath.Join(bin, "heddlectl"), append(args, "--sandbox="+m.Name())...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return string(out)
}

func (m *mesh) mustContain(text string, parts ...string) {
	m.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			m.t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

// waitStatus waits until heddlectl status says all of these.
func (m *mesh) waitStatus(parts ...string) {
	m.t.Helper()
	m.waitCtl([]string{"status"}, parts...)
}

// waitCtl waits until heddlectl says all of these. It asks the controller and the
// agents, of which each has its own view of a change.
func (m *mesh) waitCtl(args []string, parts ...string) {
	m.t.Helper()
	m.eventually("heddlectl "+strings.Join(args, " "), func() error {
		out := m.ctl(args...)
		for _, part := range parts {
			if !strings.Contains(out, part) {
				return fmt.Errorf("%q is missing in:\n%s", part, out)
			}
		}
		return nil
	})
}
