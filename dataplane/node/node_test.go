package node

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/feed/feedtest"
	"heddle.io/heddle/dataplane/nettest"
)

// From a label and an announcement to a connection, and back out.
func TestPodEntersAndLeavesTheMesh(t *testing.T) {
	for _, tc := range []string{"auto", "clsact"} {
		t.Run(tc, func(t *testing.T) { podEntersAndLeaves(t, tc) })
	}
}

func podEntersAndLeaves(t *testing.T, tc string) {
	r := newRig(t)
	r.config.TC = tc
	client, server := r.pod("client", "10.0.0.1", true), r.pod("server", "10.0.0.2", false)
	server.serve(8080)
	r.service(1, server)
	r.start()
	nettest.Join(t, r.config.Cgroup)

	if p := client.announce(); !p.Enrolled || p.Netns != client.Cookie() || p.Mode == "" {
		t.Fatalf("client is %+v", p)
	}
	if p := server.announce(); p.Enrolled || !strings.Contains(p.Reason, "labelled") {
		t.Fatalf("server is %+v", p)
	}
	answer, peer, err := client.dial(vip)
	if err != nil || answer != "server" || peer != vip {
		t.Fatalf("dialled the service: %q from %s, %v", answer, peer, err)
	}

	services := get[[]api.Service](r, "/v1/services")
	if len(services) != 1 || services[0].Backends[0].Opened != 1 || services[0].Backends[0].Observed != 1 || services[0].Programmed.IsZero() {
		t.Errorf("services are %+v", services)
	}
	var why api.Why
	if err := r.ask(http.MethodPost, "/v1/why", api.WhyRequest{Source: "shop/client", Address: "10.96.0.1", Port: 80, Protocol: "tcp"}, &why); err != nil {
		t.Fatal(err)
	}
	if why.Verdict != "translate" || why.Endpoint != "10.0.0.2:8080" || why.Service != "shop/cart:80/tcp" || len(why.Read) != 4 {
		t.Errorf("why: %+v", why)
	}
	pods := get[[]api.Pod](r, "/v1/pods")
	if len(pods) != 2 || pods[0].RxPackets == 0 || pods[1].RxPackets != 0 {
		t.Errorf("pods are %+v", pods)
	}
	status := get[api.AgentStatus](r, "/v1/status")
	if status.Pods != 1 || status.Services != 1 || status.Zone != "z1" || !status.Feed.Synced || len(status.Problems) != 0 || status.Plan.Batches == 0 {
		t.Errorf("status is %+v", status)
	}

	// The namespace loses its label: nothing is captured, nothing is dropped.
	client.label(false)
	r.eventually("the client is outside", func() bool { return get[[]api.Pod](r, "/v1/pods")[0].Mode == "" })
	if answer, _, err := client.dial(vip); err == nil {
		t.Errorf("still translated: %q", answer)
	}
	if answer, _, err := client.dial("10.0.0.2:8080"); err != nil || answer != "server" {
		t.Errorf("traffic of a pod that left: %q, %v", answer, err)
	}
	// And gets it back, while it runs.
	client.label(true)
	r.eventually("the client is back", func() bool { return get[[]api.Pod](r, "/v1/pods")[0].Enrolled })
	if answer, _, err := client.dial(vip); err != nil || answer != "server" {
		t.Errorf("after the label came back: %q, %v", answer, err)
	}
	if err := r.ask(http.MethodDelete, "/v1/pods/shop/client", nil, nil); err != nil {
		t.Fatal(err)
	}
	if pods := get[[]api.Pod](r, "/v1/pods"); len(pods) != 1 {
		t.Errorf("pods after the removal: %+v", pods)
	}
}

func TestNoEndpointIsRefusedAtOnce(t *testing.T) {
	r := newRig(t)
	client := r.pod("client", "10.0.0.1", true)
	r.service(1)
	r.start()
	nettest.Join(t, r.config.Cgroup)
	client.announce()
	start := time.Now()
	if _, _, err := client.dial(vip); !errors.Is(err, syscall.ECONNREFUSED) || time.Since(start) > time.Second {
		t.Errorf("dialled: %v after %v", err, time.Since(start))
	}
	status := get[api.AgentStatus](r, "/v1/status")
	if !slices.Contains(status.Reasons, api.Count{Name: "no_endpoint", Count: 1}) {
		t.Errorf("reasons are %v", status.Reasons)
	}
	if s := get[[]api.Service](r, "/v1/services")[0]; s.Backends[0].Problem != "no_endpoint" || len(s.Refused) != 1 {
		t.Errorf("service is %+v", s)
	}
}

func TestAnnouncementsThatCannotSucceed(t *testing.T) {
	r := newRig(t)
	client := r.pod("client", "10.0.0.1", true)
	r.start()
	for name, test := range map[string]struct {
		change func(*api.PodRequest)
		want   string
	}{
		// Long enough for an agent on a busy machine to come to it.
		"unknown":      {func(p *api.PodRequest) { p.Name, p.TimeoutSeconds = "stranger", 3 }, "504: pod shop/stranger: the control plane did not name it on node node1"},
		"host network": {func(p *api.PodRequest) { p.Netns = r.host }, "is the node's own network namespace"},
		"no interface": {func(p *api.PodRequest) { p.Interface = "none0" }, "400: invalid pod: interface none0"},
		"no namespace": {func(p *api.PodRequest) { p.Netns = "/run/netns/none" }, "400: invalid pod: open network namespace"},
		"no netns":     {func(p *api.PodRequest) { p.Netns = "/proc/self/ns/mnt" }, "400: invalid pod: enter network namespace"},
		"timeout":      {func(p *api.PodRequest) { p.TimeoutSeconds = -1 }, "400: timeoutSeconds"},
	} {
		t.Run(name, func(t *testing.T) {
			request := client.request()
			request.TimeoutSeconds = 0.2
			test.change(&request)
			err := r.ask(http.MethodPut, "/v1/pods", request, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	// Without a control plane the answer says so.
	r.server.Kill()
	r.eventually("disconnected", func() bool { return !get[api.AgentStatus](r, "/v1/status").Feed.Connected })
	request := client.request()
	request.Name, request.TimeoutSeconds = "stranger", 3
	if err := r.ask(http.MethodPut, "/v1/pods", request, nil); err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("got %v", err)
	}
}

// kill -9 and back, with and without the control plane: connections are made
// all the time, and the agent that comes back takes over what it finds.
func TestKilledAgentIsAdopted(t *testing.T) {
	r := newRig(t)
	nettest.Join(t, r.config.Cgroup)
	client, a, b := r.pod("client", "10.0.0.1", true), r.pod("a", "10.0.0.2", false), r.pod("b", "10.0.0.3", false)
	a.serve(8080)
	b.serve(8080)
	r.service(1, a)
	kill := r.spawn()
	client.announce()
	must := func(want string) {
		t.Helper()
		if answer, _, err := client.dial(vip); err != nil || answer != want {
			t.Fatalf("dialled the service: %q, %v; want %q", answer, err, want)
		}
	}
	must("a")
	for round := range 3 {
		kill()
		must("a")
		// What changes while there is no agent is caught up with.
		r.service(1, b)
		kill = r.spawn()
		r.eventually("the change", func() bool { answer, _, err := client.dial(vip); return err == nil && answer == "b" })

		// Without the control plane, the tables stay, and the cache knows the rest.
		r.server.Kill()
		kill()
		must("b")
		kill = r.spawn()
		must("b")
		status := get[api.AgentStatus](r, "/v1/status")
		if !status.Feed.FromCache || !status.Feed.Synced {
			t.Errorf("feed is %+v", status.Feed)
		}
		// It is named at once and put in force after a while.
		r.eventually("the pod is shown", func() bool {
			status := get[api.AgentStatus](r, "/v1/status")
			return status.Services == 1 && status.Pods == 1
		})
		r.eventually("the state from the cache is in force", func() bool {
			services := get[[]api.Service](r, "/v1/services")
			return len(services) == 1 && !services[0].Programmed.IsZero()
		})
		must("b")
		r.server.Start()
		r.service(1, a)
		r.eventually("the control plane's change", func() bool { answer, _, err := client.dial(vip); return err == nil && answer == "a" })
		t.Logf("round %d done", round)
	}
	if pods := get[[]api.Pod](r, "/v1/pods"); len(pods) != 1 || !pods[0].Enrolled {
		t.Errorf("pods are %+v", pods)
	}
}

// An agent whose state directory was lost finds running pods in the kernel's
// tables; without a state from the control plane it takes nothing away.
func TestLostStateDirectory(t *testing.T) {
	r := newRig(t)
	nettest.Join(t, r.config.Cgroup)
	client, server := r.pod("client", "10.0.0.1", true), r.pod("server", "10.0.0.2", false)
	server.serve(8080)
	r.service(1, server)
	kill := r.spawn()
	client.announce()
	kill()
	r.server.Kill()
	r.config.StateDir = filepath.Join(t.TempDir(), "fresh")
	r.spawn()
	if answer, _, err := client.dial(vip); err != nil || answer != "server" {
		t.Fatalf("without any state: %q, %v", answer, err)
	}
	if status := get[api.AgentStatus](r, "/v1/status"); status.Feed.Synced || status.Services != 0 {
		t.Errorf("status is %+v", status)
	}
	r.server.Start()
	r.eventually("the pod is found again", func() bool {
		pods := get[[]api.Pod](r, "/v1/pods")
		return len(pods) == 1 && pods[0].Name == "client" && pods[0].Enrolled
	})
	if answer, _, err := client.dial(vip); err != nil || answer != "server" {
		t.Errorf("after the state came back: %q, %v", answer, err)
	}
}

// Stopping is not uninstalling.
func TestStoppedAgentLeavesTheKernelAlone(t *testing.T) {
	r := newRig(t)
	client, server := r.pod("client", "10.0.0.1", true), r.pod("server", "10.0.0.2", false)
	server.serve(8080)
	r.service(1, server)
	a := r.start()
	client.announce()
	a.end()
	nettest.Join(t, r.config.Cgroup)
	if answer, peer, err := client.dial(vip); err != nil || answer != "server" || peer != vip {
		t.Errorf("after the agent ended: %q from %s, %v", answer, peer, err)
	}
}

func TestNackIsShown(t *testing.T) {
	r := newRig(t)
	r.service(1)
	r.start()
	r.eventually("the service", func() bool { return len(get[[]api.Service](r, "/v1/services")) == 1 })
	bad := feedtest.Service("cart", 2)
	bad.Ports[0].Port = 0
	r.server.Set(xds.ServiceType, "shop/cart", bad)
	r.eventually("the NACK", func() bool {
		s := get[api.AgentStatus](r, "/v1/status")
		return s.Feed.Nacks > 0 && s.Feed.LastNack.Resource == "shop/cart" && len(s.Problems) == 1 &&
			s.Problems[0].Reason == "ResourceRefused" && !s.Problems[0].Since.IsZero()
	})
	if s := get[[]api.Service](r, "/v1/services"); len(s) != 1 || s[0].Backends[0].Weight != 1 {
		t.Errorf("services are %+v", s)
	}
}

// A namespace gains and loses its label while its pods talk: no connection
// fails, and none waits for a packet that was dropped in between (a lost SYN
// costs a second).
func TestLabelChangesUnderTraffic(t *testing.T) {
	r := newRig(t)
	client, server := r.pod("client", "10.0.0.1", false), r.pod("server", "10.0.0.2", false)
	server.serve(8080)
	r.service(1, server)
	r.start()
	nettest.Join(t, r.config.Cgroup)
	client.announce()

	stop := make(chan struct{})
	var talking sync.WaitGroup
	talking.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				t.Logf("%d connections", n)
				return
			default:
			}
			start := time.Now()
			answer, _, err := client.dial("10.0.0.2:8080")
			if took := time.Since(start); err != nil || answer != "server" || took > 900*time.Millisecond {
				t.Errorf("connection %d: %q, %v after %v", n, answer, err, took)
			}
		}
	})
	for i := range 20 {
		client.label(i%2 == 0)
		r.eventually("the label's effect", func() bool { return get[[]api.Pod](r, "/v1/pods")[0].Enrolled == (i%2 == 0) })
	}
	close(stop)
	talking.Wait()
}

// A running pod may lose the path of its namespace. That must not take it out of
// the mesh when the agent starts again: its interface and the tables say that it
// lives.
func TestLostPathOfANamespace(t *testing.T) {
	r := newRig(t)
	nettest.Join(t, r.config.Cgroup)
	client, a := r.pod("client", "10.0.0.1", true), r.pod("a", "10.0.0.2", false)
	a.serve(8080)
	r.service(1, a)
	path := filepath.Join(t.TempDir(), "netns")
	if err := os.Symlink(client.Path(), path); err != nil {
		t.Fatal(err)
	}
	kill := r.spawn()
	request := client.request()
	request.Netns = path
	if err := r.ask(http.MethodPut, "/v1/pods", request, nil); err != nil {
		t.Fatal(err)
	}
	kill()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.spawn()
	// The next state makes sure that one was put in force.
	r.service(2, a)
	r.eventually("a new state is in force", func() bool {
		services := get[[]api.Service](r, "/v1/services")
		return len(services) == 1 && services[0].Backends[0].Weight == 2
	})
	if answer, _, err := client.dial(vip); err != nil || answer != "a" {
		t.Errorf("after the restart: %q, %v", answer, err)
	}
}
