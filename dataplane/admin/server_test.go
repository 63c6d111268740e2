package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
)

// ask sends a request and returns the status and the body.
func ask(t *testing.T, c *http.Client, method, path, body string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode >= 400 {
		var e api.Error
		if err := json.Unmarshal(b, &e); err != nil || e.Error == "" {
			t.Errorf("%s %s: the error is not an Error object: %q", method, path, b)
		}
	}
	return response.StatusCode, b
}

func TestEveryPathAnswers(t *testing.T) {
	s := newStub(t, shop)
	s.status = api.AgentStatus{Node: "n1"}
	s.reasons[bpf.ReasonBalanced] = 7
	s.ifaces[3] = bpf.IfaceStat{RxPackets: 5, Dropped: 1}
	s.decide = func(bpf.ConnectIn) bpf.ConnectOut { return bpf.ConnectOut{Index: bpf.None} }
	s.announce = func(_ context.Context, p api.PodRequest) (api.Pod, error) {
		return api.Pod{Name: p.Name, Enrolled: true}, nil
	}
	client, _ := serve(t, s)
	for _, test := range []struct{ method, path, body, want string }{
		{"GET", "/v1/status", "", `"services":3,"endpoints":3,"reasons":[{"name":"balanced","count":7}]`},
		{"GET", "/v1/services", "", `"name":"cart","port":80,"portName":"http"`},
		{"GET", "/v1/clusters", "", `"name":"shop/cart/80/tcp"`},
		{"GET", "/v1/pods", "", `"mode":"tcx","rxPackets":5,"rxBytes":0,"txPackets":0,"txBytes":0,"dropped":1`},
		{"GET", "/v1/maps", "", `"name":"hd_pods"`},
		{"GET", "/v1/maps/hd_pods", "", `"entries":[{"key":"1","value":"a"}]`},
		{"POST", "/v1/why", `{"source":"shop/web","address":"10.96.0.10","port":80,"protocol":"tcp"}`, `"verdict":"pass"`},
		{"PUT", "/v1/pods", `{"namespace":"shop","name":"web"}`, `"enrolled":true`},
		{"DELETE", "/v1/pods/shop/web", "", `{}`},
		{"GET", "/metrics", "", `heddle_agent_decisions_total{reason="balanced"} 7`},
	} {
		if status, body := ask(t, client, test.method, test.path, test.body); status != 200 || !strings.Contains(string(body), test.want) {
			t.Errorf("%s %s: %d %s, want %q", test.method, test.path, status, body, test.want)
		}
	}
	if forgot := s.forgot(); !slices.Equal(forgot, []string{"shop/web"}) {
		t.Errorf("forgotten: %v", forgot)
	}
}

func TestErrorsSayWhat(t *testing.T) {
	s := newStub(t, shop)
	s.announce = func(context.Context, api.PodRequest) (api.Pod, error) {
		return api.Pod{}, &Failure{Status: http.StatusGatewayTimeout, Err: errors.New("too late")}
	}
	client, _ := serve(t, s)
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/nothing", "", 404, "no such path"},
		{"POST", "/v1/status", "", 405, "POST is not possible"},
		{"GET", "/v1/why", "", 405, "GET is not possible"},
		{"GET", "/v1/maps/hd_none", "", 404, "no map"},
		{"GET", "/v1/maps/hd_conns", "", 400, "cannot be listed"},
		{"POST", "/v1/why", `{`, 400, "request body"},
		{"POST", "/v1/why", `{"sauce":"x"}`, 400, "unknown field"},
		{"POST", "/v1/why", `{} {}`, 400, "more than one"},
		{"POST", "/v1/why", `{"source":"` + strings.Repeat("x", maxBody) + `"}`, 413, "too large"},
		{"POST", "/v1/why", `{"source":"shop/web","address":"x","port":80}`, 400, "not an IP address"},
		{"POST", "/v1/why", `{"source":"shop/x","address":"10.0.0.1","port":80}`, 404, "was not announced"},
		{"POST", "/v1/why", `{"source":"shop/web","address":"10.0.0.1","port":80}`, 500, "asking the kernel"},
		{"PUT", "/v1/pods", `{}`, 504, "too late"},
		{"DELETE", "/v1/pods/shop/none", "", 404, "was not announced"},
	} {
		status, body := ask(t, client, test.method, test.path, test.body)
		if status != test.status || !strings.Contains(string(body), test.want) {
			t.Errorf("%s %s: %d %.200s, want %d %q", test.method, test.path, status, body, test.status, test.want)
		}
	}
}

// Announcements that wait neither use up the slots of questions nor pile up.
func TestWaitingIsBounded(t *testing.T) {
	s := newStub(t, shop)
	started := make(chan struct{}, maxWaiting)
	s.announce = func(ctx context.Context, _ api.PodRequest) (api.Pod, error) {
		started <- struct{}{}
		<-ctx.Done()
		return api.Pod{}, ctx.Err()
	}
	client, _ := serve(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	var waiting sync.WaitGroup
	for range maxWaiting {
		waiting.Go(func() {
			r, _ := http.NewRequestWithContext(ctx, http.MethodPut, "http://agent/v1/pods", strings.NewReader(`{}`))
			if response, err := client.Do(r); err == nil {
				response.Body.Close()
			}
		})
	}
	for range maxWaiting {
		<-started
	}
	if status, _ := ask(t, client, "PUT", "/v1/pods", `{}`); status != http.StatusServiceUnavailable {
		t.Errorf("one more announcement: %d", status)
	}
	if status, _ := ask(t, client, "GET", "/v1/status", ""); status != 200 {
		t.Errorf("a question meanwhile: %d", status)
	}
	cancel()
	waiting.Wait()
}

// An announcement may wait for longer than other requests may take.
func TestPatientAnnouncement(t *testing.T) {
	s := newStub(t, shop)
	s.announce = func(ctx context.Context, _ api.PodRequest) (api.Pod, error) {
		select {
		case <-ctx.Done():
			return api.Pod{}, ctx.Err()
		case <-time.After(time.Second): // twice the deadlines of the rig
			return api.Pod{Enrolled: true}, nil
		}
	}
	client, _ := serve(t, s)
	if status, body := ask(t, client, "PUT", "/v1/pods", `{}`); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

func TestSocketBelongsToItsOwner(t *testing.T) {
	_, socket := serve(t, newStub(t, shop))
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v (%v), want 0600", info.Mode(), err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	// What a killed process leaves: a socket that nobody listens on.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	l, err := Listen(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(context.Background(), path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("a live socket: %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the live socket was harmed: %v", err)
	} else {
		c.Close()
	}
	l.Close()

	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(context.Background(), path); err == nil || !strings.Contains(err.Error(), "file of another kind") {
		t.Errorf("a file: %v", err)
	}
}

// A client that sends half a request is cut off, and does not keep others out.
func TestSlowClients(t *testing.T) {
	client, socket := serve(t, newStub(t, shop))
	for range maxQuestions + 5 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "POST /v1/why HTTP/1.1\r\nHost: x\r\n") // and no more
	}
	start := time.Now()
	if status, _ := ask(t, client, "GET", "/v1/status", ""); status != 200 || time.Since(start) > time.Second {
		t.Errorf("status %d after %v", status, time.Since(start))
	}
}

// FuzzRequest sends any body to the paths that read one.
func FuzzRequest(f *testing.F) {
	f.Add(true, []byte(`{"source":"shop/web","address":"10.96.0.10","port":80,"protocol":"tcp"}`))
	f.Add(false, []byte(`{"namespace":"a","name":"b","netns":"/run/netns/x","interface":"v","timeoutSeconds":1e309}`))
	f.Add(true, []byte(`{"port":-1}`))
	f.Fuzz(func(t *testing.T, why bool, body []byte) {
		r, err := http.NewRequest(http.MethodPost, "http://agent/", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var q api.WhyRequest
		var p api.PodRequest
		if why {
			err = read(r, &q)
		} else {
			err = read(r, &p)
		}
		if err == nil && !json.Valid(body) {
			t.Fatalf("accepted %q", body)
		}
		if err != nil && statusOf(err) != http.StatusBadRequest {
			t.Fatalf("status %d for %v", statusOf(err), err)
		}
	})
}
