package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/nettest"
)

// asPeer makes this test binary a process that says what the CNI socket named
// by its value answers to it. It asks once its input ends.
const asPeer = "HEDDLE_ADMIN_TEST_PEER"

func TestMain(m *testing.M) {
	if socket := os.Getenv(asPeer); socket != "" {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(askAsPeer(socket))
	}
	os.Exit(m.Run())
}

func askAsPeer(socket string) int {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequest(http.MethodDelete, "http://agent/v1/pods/shop/web", nil)
	if err != nil {
		os.Stdout.WriteString(err.Error())
		return 1
	}
	response, err := client.Do(request)
	if err != nil {
		os.Stdout.WriteString(err.Error())
		return 1
	}
	os.Stdout.WriteString(response.Status + " ")
	_, _ = os.Stdout.ReadFrom(response.Body)
	return 0
}

// serveCNI answers for s on a CNI socket that everybody may open: the check of
// the peer must do alone.
func serveCNI(t *testing.T, s *stub) (socket string, m *Metrics) {
	t.Helper()
	dir, err := os.MkdirTemp("", "heddle-cni")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "cni.sock")
	ctx, cancel := context.WithCancel(context.Background())
	l, err := Listen(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, socket: 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	m = NewMetrics()
	server := NewEnrolment(s, m, slog.New(slog.DiscardHandler))
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	return socket, m
}

// peer asks from a process that runs as a user, in a cgroup if one is named.
func peer(t *testing.T, socket string, user uint32, cgroup string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if user != 0 { // it may not read where go test builds
		copied := filepath.Join(filepath.Dir(socket), "peer")
		if out, err := exec.Command("install", "-m", "0755", self, copied).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		self = copied
	}
	c := exec.Command(self)
	c.Env, c.Dir = append(os.Environ(), asPeer+"="+socket), "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	start, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if cgroup != "" {
		if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0); err != nil {
			t.Error(err)
		}
	}
	start.Close()
	if err := c.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return out.String()
}

func TestStrangersAreRefused(t *testing.T) {
	nettest.RequireRoot(t)
	s := newStub(t, shop)
	socket, m := serveCNI(t, s)
	inPod := filepath.Join(nettest.Cgroup(t), "kubepods", "pod0a1b2c3d-1111-2222-3333-0123456789ab", "app")
	if err := os.MkdirAll(inPod, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		user         uint32
		cgroup, want string
	}{
		"another user":          {65534, "", "not root but user 65534"},
		"root in a pod":         {0, inPod, "belongs to the pod with uid 0a1b2c3d-1111-2222-3333-0123456789ab"},
		"another user in a pod": {65534, inPod, "not root but user 65534"},
	} {
		before := testutil.ToFloat64(m.strangers)
		if got := peer(t, socket, test.user, test.cgroup); !strings.HasPrefix(got, "403 ") || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %s, want 403 with %q", name, got, test.want)
		}
		if n := testutil.ToFloat64(m.strangers) - before; n != 1 {
			t.Errorf("%s: counted %v times", name, n)
		}
	}
	if forgot := s.forgot(); len(forgot) != 0 {
		t.Errorf("a stranger forgot %v", forgot)
	}
	if got := peer(t, socket, 0, ""); !strings.HasPrefix(got, "200 ") || len(s.forgot()) != 1 {
		t.Errorf("the node's root got %s", got)
	}
}

// A process of a pod that ends once it is connected, and leaves the connection to
// another, is a stranger although the kernel has forgotten its cgroups.
func TestAnEndedPeerIsAStranger(t *testing.T) {
	nettest.RequireRoot(t)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), asPeer+"="+socket)
	if err := c.Start(); err != nil { // without input it asks at once
		t.Fatal(err)
	}
	defer func() { _ = c.Wait() }() // not before: it must not be waited for
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := checkPeer(conn); err != nil {
		t.Errorf("refused while it runs: %v", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, c.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if err := checkPeer(conn); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("after its end: %v, want that it has ended", err)
	}
}

func TestCNISocketServesPodsOnly(t *testing.T) {
	nettest.RequireRoot(t)
	s := newStub(t, shop)
	s.announce = func(_ context.Context, p api.PodRequest) (api.Pod, error) {
		return api.Pod{Namespace: p.Namespace, Name: p.Name}, nil
	}
	socket, _ := serveCNI(t, s)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	for _, test := range []struct {
		method, path, body string
		want               int
	}{
		{http.MethodPut, "/v1/pods", `{"namespace":"shop","name":"web","uid":"u","addresses":["10.0.0.1"]}`, 200},
		{http.MethodDelete, "/v1/pods/shop/web?uid=u&netns=/run/netns/x", "", 200},
		{http.MethodGet, "/v1/pods", "", 405},
		{http.MethodGet, "/v1/status", "", 404},
		{http.MethodPost, "/v1/why", "{}", 404},
		{http.MethodGet, "/metrics", "", 404},
	} {
		request, err := http.NewRequest(test.method, "http://agent"+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != test.want {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, response.StatusCode, test.want)
		}
	}
	if forgot := s.forgot(); !slices.Equal(forgot, []string{"shop/webu/run/netns/x"}) {
		t.Errorf("forgotten: %v", forgot)
	}
}
