package source

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/controlplane/source/sourcetest"
)

// cluster is a source with its API server.
type cluster struct {
	*sourcetest.Server
	t    *testing.T
	k    *Kubernetes
	last Update
}

func startCluster(t *testing.T, documents string, kinds ...string) *cluster {
	t.Helper()
	c := &cluster{Server: sourcetest.Start(t), t: t}
	if len(kinds) > 0 {
		c.Install(kinds...)
	}
	c.Put(documents)
	c.run()
	return c
}

func (c *cluster) run() {
	c.t.Helper()
	var err error
	if c.k, err = NewKubernetes(c.Config(), nil); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.k.Run(ctx) }()
	c.t.Cleanup(func() { cancel(); <-done })
}

// state is what is in force, and the problems but for kinds that are not there.
func (c *cluster) state() string {
	if c.last.Snapshot == nil {
		return "nothing"
	}
	var out []string
	for _, key := range slices.Collect(maps.Keys(c.last.Snapshot.Pods)) {
		out = append(out, "pod "+key.Name)
	}
	for key, s := range c.last.Snapshot.Services {
		out = append(out, fmt.Sprintf("service %s %v", key.Name, s.Addresses))
	}
	for key := range c.last.Snapshot.Routes {
		out = append(out, "route "+key.Name)
	}
	for key, p := range c.last.Snapshot.Policies {
		out = append(out, fmt.Sprintf("policy %s %d", key.Name, p.MaxConnections))
	}
	for _, p := range c.last.Problems {
		if p.Reason != "KindNotInstalled" {
			out = append(out, p.Object+" "+p.Reason)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// until waits for a state.
func (c *cluster) until(want string) {
	c.t.Helper()
	want = strings.ReplaceAll(want, "API server", "API server "+c.Config().Host)
	deadline := time.After(patience)
	for c.last.Snapshot == nil || c.state() != want {
		select {
		case c.last = <-c.k.Updates():
		case <-deadline:
			c.t.Fatalf("state is %q\nwant     %q\nproblems %v", c.state(), want, c.last.Problems)
		}
	}
}

func (c *cluster) detail(reason string) string {
	for _, p := range c.last.Problems {
		if p.Reason == reason {
			return p.Detail
		}
	}
	return ""
}

const (
	webText    = `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}`
	canaryText = `{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: canary, namespace: shop}, spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}}`
)

func policy(more string) string {
	return fmt.Sprintf(policyText, "targetRefs: [{group: '', kind: Service, name: web}], "+more)
}

func apiPod(name, created, address, status string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: shop, creationTimestamp: %q%s}, spec: {nodeName: n1, containers: []}, status: {podIP: %s, podIPs: [{ip: %s}]}}",
		name, created, status, address, address)
}

func TestObjectsComeChangeAndGo(t *testing.T) {
	c := startCluster(t, webText, "TCPRoute", "TrafficPolicy")
	c.until("service web [10.96.0.1]")
	before := c.last.Snapshot
	c.Put(canaryText)
	c.until("route canary, service web [10.96.0.1]")
	if c.last.Snapshot.Services[key("shop", "web")] != before.Services[key("shop", "web")] {
		t.Error("a Service that did not change is another one")
	}
	c.Put(strings.Replace(webText, "10.96.0.1", "10.96.0.2", 1))
	c.until("route canary, service web [10.96.0.2]")
	c.Remove(canaryText)
	c.until("service web [10.96.0.2]")
	c.Remove(webText)
	c.until("")
}

// An object that cannot be used leaves its last good version in force; what a
// newer definition allows is not guessed at.
func TestBadObjects(t *testing.T) {
	c := startCluster(t, webText+"\n---\n"+policy("maxConnections: 7"), "TrafficPolicy")
	c.until("policy p 7, service web [10.96.0.1]")
	c.Put(policy("maxConnections: 8, locality: Nearest"))
	c.until("TrafficPolicy shop/p Invalid, policy p 7, service web [10.96.0.1]")
	if detail := c.detail("Invalid"); detail != "spec.locality: Nearest is not known, use Any, PreferSameZone, PreferSameNode or OnlySameNode; its last good version stays in force" {
		t.Errorf("detail: %s", detail)
	}
	c.Put(policy("maxConnections: 9"))
	c.until("policy p 9, service web [10.96.0.1]")
	c.Put(policy("maxConnections: 10, future: {a: b}"))
	c.until("TrafficPolicy shop/p Invalid, policy p 9, service web [10.96.0.1]")
	if detail := c.detail("Invalid"); !strings.Contains(detail, `unknown field "spec.future"`) {
		t.Errorf("detail: %s", detail)
	}
	c.Remove(policy("maxConnections: 10"))
	c.until("service web [10.96.0.1]")
}

func TestKindsComeAndGo(t *testing.T) {
	c := startCluster(t, webText)
	c.until("service web [10.96.0.1]")
	if detail := c.detail("KindNotInstalled"); detail == "" {
		t.Error("nobody says that Gateway API is not there")
	}
	c.Install("TCPRoute", "TrafficPolicy")
	c.Put(canaryText)
	c.until("route canary, service web [10.96.0.1]")
	c.Uninstall("TCPRoute")
	c.until("service web [10.96.0.1]")
	c.Install("TCPRoute")
	c.Put(canaryText)
	c.until("route canary, service web [10.96.0.1]")
}

// While the API server is away everything stays, and what changed meanwhile is
// found when it is back.
func TestServerAway(t *testing.T) {
	c := startCluster(t, webText, "TCPRoute")
	c.until("service web [10.96.0.1]")
	snapshot := c.last.Snapshot
	c.Refuse(http.StatusInternalServerError)
	c.until("API server SourceUnavailable, service web [10.96.0.1]")
	if c.last.Snapshot != snapshot {
		t.Error("the snapshot changed")
	}
	if c.last.Err == nil {
		t.Error("there is no error")
	}
	c.Put(canaryText)
	c.Remove(webText)
	c.Refuse(0)
	c.until("route canary")
}

// Nothing is told before everything was read.
func TestNoHalfState(t *testing.T) {
	c := &cluster{Server: sourcetest.Start(t), t: t}
	c.Install("TCPRoute")
	c.Put(webText + "\n---\n" + canaryText)
	c.Refuse(http.StatusInternalServerError)
	c.run()
	first := <-c.k.Updates()
	if first.Snapshot != nil || first.Err == nil {
		t.Fatalf("the first update has snapshot %v, error %v", first.Snapshot, first.Err)
	}
	c.Refuse(0)
	for c.last.Snapshot == nil {
		c.last = <-c.k.Updates()
	}
	if got := c.state(); !strings.Contains(got, "route canary, service web [10.96.0.1]") {
		t.Errorf("the first snapshot has %s", got)
	}
}

// An address that a pod on its way out had belongs to the younger pod that has it
// now, but between two pods that stay, to the older one.
func TestAnAddressIsUsedAgain(t *testing.T) {
	going := `, deletionTimestamp: "2026-03-01T00:00:00Z"`
	c := startCluster(t, apiPod("old", "2026-02-01T00:00:00Z", "10.0.0.1", ""))
	c.until("pod old")
	c.Put(apiPod("new", "2026-02-02T00:00:00Z", "10.0.0.1", ""))
	c.until("Pod shop/new AddressInUse, pod old")
	c.Put(apiPod("old", "2026-02-01T00:00:00Z", "10.0.0.1", going))
	c.until("pod new")
	c.Remove(apiPod("old", "2026-02-01T00:00:00Z", "10.0.0.1", going))
	c.Put(apiPod("other", "2026-02-03T00:00:00Z", "10.0.0.2", ""))
	c.until("pod new, pod other")
}

// A static pod has the uid that its node knows it by, not its mirror's.
func TestStaticPod(t *testing.T) {
	created := "2026-02-01T00:00:00Z"
	c := startCluster(t, apiPod("dns", created, "10.0.0.1", ", uid: mirror, annotations: {kubernetes.io/config.mirror: hash, kubernetes.io/config.hash: hash}"))
	c.until("pod dns")
	if got := c.last.Snapshot.Pods[key("shop", "dns")].UID; got != "hash" {
		t.Errorf("a static pod has uid %q", got)
	}
	c.Put(apiPod("web", created, "10.0.0.2", ", uid: own"))
	c.until("pod dns, pod web")
	if got := c.last.Snapshot.Pods[key("shop", "web")].UID; got != "own" {
		t.Errorf("a pod has uid %q", got)
	}
}

// A pod that becomes ready changes nothing here, one that ends is gone, and many
// changes are few updates.
func TestChangesAreGathered(t *testing.T) {
	c := startCluster(t, apiPod("p", "2026-02-01T00:00:00Z", "10.0.0.1", ""))
	c.until("pod p")
	snapshot := c.last.Snapshot
	c.Put(strings.Replace(apiPod("p", "2026-02-01T00:00:00Z", "10.0.0.1", ", annotations: {a: b}"), "status: {", `status: {phase: Running, conditions: [{type: Ready, status: "True"}], `, 1))
	c.Put(apiPod("q", "2026-02-01T00:00:00Z", "10.0.0.2", ""))
	c.until("pod p, pod q")
	if c.last.Snapshot.Pods[key("shop", "p")] != snapshot.Pods[key("shop", "p")] {
		t.Error("a pod that became ready is another one")
	}
	c.Put(strings.Replace(apiPod("q", "2026-02-01T00:00:00Z", "10.0.0.2", ""), "status: {", "status: {phase: Succeeded, ", 1))
	c.until("pod p")

	const many = 1000
	var documents []string
	for i := range many {
		documents = append(documents, apiPod(fmt.Sprint("r", i), "2026-02-01T00:00:00Z", fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250), ""))
	}
	c.Put(strings.Join(documents, "\n---\n"))
	updates := 0
	for len(c.last.Snapshot.Pods) != many+1 {
		select {
		case c.last = <-c.k.Updates():
			updates++
		case <-time.After(patience):
			t.Fatalf("%d pods", len(c.last.Snapshot.Pods))
		}
	}
	if updates > many/10 {
		t.Errorf("%d changes are %d updates", many, updates)
	}
}
