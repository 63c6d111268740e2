package sandbox

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/nettest"
)

// world makes the nodes of a sandbox of this test, without controller and
// agents, and takes them down at the end.
func world(t *testing.T) *session {
	t.Helper()
	nettest.RequireRoot(t)
	s, err := New(Options{Name: "heddle-unit", Dir: filepath.Join(t.TempDir(), "box")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Down(t.Context()); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	x, err := s.create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	for range 2 { // the second time finds everything there
		if err := x.ensureNodes(); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// pod makes a pod's network, without processes.
func (x *session) pod(t *testing.T, name, node string) *podState {
	t.Helper()
	o := podOf(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: "+name+", namespace: unit}\nspec: {nodeName: "+node+", containers: [{name: c, command: [sleep, infinity]}]}")
	w := &work{obj: o}
	if err := x.placePod(w); err != nil {
		t.Fatal(err)
	}
	if err := makeCgroup(podCgroup(x.root, w.start)); err != nil {
		t.Fatal(err)
	}
	if err := makeNetns(x.s.netnsOf(w.start)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := x.s.connectPod(w.start); err != nil {
			t.Fatal(err)
		}
	}
	return w.start
}

// TestPodsReachEachOther: every pair of pods, and the nodes their pods, in both
// families; who is dialled sees the dialling pod's own address.
func TestPodsReachEachOther(t *testing.T) {
	x := world(t)
	pods := []*podState{x.pod(t, "a", "node1"), x.pod(t, "b", "node1"), x.pod(t, "c", "node2")}
	for _, server := range pods {
		for i, text := range server.Addresses {
			var l net.Listener
			err := inNetns(x.s.netnsOf(server), func() (err error) {
				l, err = net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(text), 8080).String())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, client := range pods {
				from := dialFrom(t, x.s.netnsOf(client), l)
				if from != netip.MustParseAddr(client.Addresses[i]) {
					t.Errorf("%s sees %s as %s, want %s", server.Name, client.Name, from, client.Addresses[i])
				}
			}
			for _, n := range nodes {
				if from := dialFrom(t, x.s.nodeNetns(n.name), l); from != n.addresses()[i] {
					t.Errorf("%s sees %s as %s", server.Name, n.name, from)
				}
			}
			l.Close()
		}
	}
}

// dialFrom dials a listener from a namespace, and says what the listener saw.
func dialFrom(t *testing.T, netns string, l net.Listener) netip.Addr {
	t.Helper()
	err := inNetns(netns, func() error {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), time.Minute)
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		t.Fatalf("from %s: %v", netns, err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr()
}

// TestAbsentPodIsUnreachableAtOnce: nobody waits for an address that is not
// there, and a service address without Heddle is one.
func TestAbsentPodIsUnreachableAtOnce(t *testing.T) {
	x := world(t)
	p := x.pod(t, "a", "node1")
	for _, to := range []string{"10.244.1.99:80", "10.244.2.99:80", "10.96.0.32:80"} {
		begin := time.Now()
		err := inNetns(x.s.netnsOf(p), func() error {
			_, err := net.DialTimeout("tcp", to, 3*time.Second)
			return err
		})
		if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%s after %s: %v, want unreachable", to, time.Since(begin), err)
		}
	}
}

// TestCommandIsInside: the namespace, the cgroup, the environment and the exit
// code of a command are the pod's.
func TestCommandIsInside(t *testing.T) {
	x := world(t)
	p := x.pod(t, "a", "node2")
	if err := x.update(func(*state) { p.Env = []string{"HOSTNAME=a", "PATH=/bin:/usr/bin"}; p.Dir = x.s.Dir() }); err != nil {
		t.Fatal(err)
	}
	cmd, err := x.s.Command(t.Context(), "unit", "a", "sh", "-c", "readlink /proc/self/ns/net; cat /proc/self/cgroup; echo $HOSTNAME; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("got %v, want the exit code 7", err)
	}
	var ns string
	err = inNetns(x.s.netnsOf(p), func() (err error) {
		ns, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{ns, "::/heddle-unit-sandbox/node2/unit_a", "\na\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

// TestDownLeavesNothing: also when the state file is lost and a process does
// not end when asked.
func TestDownLeavesNothing(t *testing.T) {
	x := world(t)
	p := x.pod(t, "a", "node1")
	stubborn := launch{
		netns: x.s.netnsOf(p), cgroup: podCgroup(x.root, p), path: "/bin:/usr/bin",
		argv: []string{"sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"}, log: filepath.Join(x.s.logDir(), "x"),
	}
	proc, err := stubborn.start()
	if err != nil {
		t.Fatal(err)
	}
	err = poll(t.Context(), 5*time.Second, time.Millisecond, func() bool { return strings.Contains(tail(stubborn.log), "deaf") })
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(x.s.stateFile()); err != nil {
		t.Fatal(err)
	}
	x.close() // Down takes the lock
	if err := x.s.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if proc.Alive() {
		t.Error("a process lives on")
	}
	names, err := listNetns()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "heddle-unit-") {
			t.Errorf("namespace %s is left", name)
		}
	}
	for _, dir := range []string{x.root, x.s.Dir()} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}

// TestLock: who waits for the lock of a sandbox that goes down learns that it
// is not up; who gives up waiting gets the context's error.
func TestLock(t *testing.T) {
	x := world(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := x.s.begin(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second session: %v, want to wait", err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := x.s.begin(t.Context())
		waited <- err
	}()
	if err := os.RemoveAll(x.s.Dir()); err != nil {
		t.Fatal(err)
	}
	x.close()
	var notUp *NotUp
	if err := <-waited; !errors.As(err, &notUp) {
		t.Errorf("got %v, want NotUp", err)
	}
}

// TestProcessIdentity: a pid alone is nobody.
func TestProcessIdentity(t *testing.T) {
	self, err := processOf(os.Getpid())
	if err != nil || !self.Alive() {
		t.Fatalf("this process: %+v, %v", self, err)
	}
	other := &Process{PID: self.PID, Started: self.Started + 1}
	if other.Alive() {
		t.Error("a process that started at another time is taken for this one")
	}
	if err := other.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	var none *Process
	if none.Alive() {
		t.Error("nobody is alive")
	}
}
