package serve_test

import (
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/serve"
)

// has waits until these nodes are known to have the Service s, and other likewise.
func (c *controller) has(want string) { c.t.Helper(); c.have("s", want) }

func (c *controller) other(want string) { c.t.Helper(); c.have("other", want) }

func (c *controller) have(service, want string) {
	c.t.Helper()
	var got serve.Progress
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got = c.Progress([]serve.Ref{{Type: xds.ServiceType, Name: service}})[0]; strings.Join(got.Has, " ") == want {
			return
		}
	}
	c.t.Fatalf("nodes %v have %s, want %q", got.Has, service, want)
}

func TestProgress(t *testing.T) {
	lines := []string{"service s v1 mesh", "service other v1 mesh", "cluster c v1 mesh", "n1: mesh", "n2: mesh", "idle: "}
	c := start(t)
	c.set(result(lines...))
	conn := c.dial()
	n1 := c.connect(conn, "n1", nil)
	c.has("n1")
	if got := c.Progress([]serve.Ref{{Type: xds.ServiceType, Name: "s"}, {Type: xds.ServiceType, Name: "gone"}}); strings.Join(got[0].Needs, " ") != "n1 n2" || got[1].Version != "" || got[1].Needs != nil {
		t.Errorf("progress %+v", got)
	}
	n2 := c.connect(conn, "n2", nil)
	c.has("n1 n2")

	// A node that refuses a change does not have it, whatever it accepts besides.
	n2.refuse = func(r *discovery.DeltaDiscoveryResponse) string {
		if r.TypeUrl == xds.ServiceType {
			return "no"
		}
		return ""
	}
	lines[0] = "service s v2 mesh"
	c.set(result(lines...))
	c.has("n1")

	// A node that is away keeps what it has.
	changes := c.Changes()
	n1.close()
	lines[1] = "service other v2 mesh"
	c.set(result(lines...))
	c.has("n1")
	if c.Changes() == changes {
		t.Error("a change was not counted")
	}
}

// What a node refuses is not made up for by what it accepts besides.
func TestRefusedUntilAccepted(t *testing.T) {
	lines := []string{"service s v1 mesh", "service other v1 mesh", "n1: mesh"}
	c := start(t)
	c.set(result(lines...))
	n1 := c.connect(c.dial(), "n1", nil)
	for range 4 {
		n1.await() // the first of each type
	}
	c.has("n1")
	n1.refuse = func(r *discovery.DeltaDiscoveryResponse) string {
		for _, resource := range r.Resources {
			if resource.Name == "s" {
				return "no"
			}
		}
		return ""
	}
	step := func(want string, change ...string) {
		t.Helper()
		copy(lines, change)
		c.set(result(lines...))
		n1.await()
		c.has(want)
	}
	step("", "service s v2 mesh")
	step("", "service s v2 mesh", "service other v2 mesh")
	c.other("n1")

	// A refusal that names what is bad leaves the rest in force.
	n1.bad = "s"
	step("", "service s v3 mesh", "service other v3 mesh")
	c.other("n1")
	n1.bad = "other"
	step("n1", "service s v4 mesh", "service other v4 mesh")
	c.other("")

	n1.refuse = func(*discovery.DeltaDiscoveryResponse) string { return "" }
	step("n1", "service s v5 mesh")
	c.other("")
	step("n1", "service s v5 mesh", "service other v5 mesh")
	c.other("n1")
}

// A node that comes back with what it refused has taken it.
func TestRefusedUntilClaimed(t *testing.T) {
	c := start(t)
	c.set(result("service s v1 mesh", "n1: mesh"))
	conn := c.dial()
	n1 := c.open(conn, "n1")
	n1.refuse = func(*discovery.DeltaDiscoveryResponse) string { return "no" }
	n1.subscribe()
	for range 4 {
		n1.await()
	}
	c.has("")
	n1.close()
	c.connect(conn, "n1", n1.has)
	c.has("n1")
}

// A Service that does not fit on a node leaves the others in force, also when it
// came earlier than what the node answers.
func TestDoesNotFit(t *testing.T) {
	lines := []string{"service s v1 mesh", "service other v1 mesh", "cluster c v1 mesh", "n1: mesh"}
	c := start(t)
	c.set(result(lines...))
	n1 := c.connect(c.dial(), "n1", nil)
	for range 4 {
		n1.await() // the first of each type
	}
	c.has("n1")
	n1.refuse = func(*discovery.DeltaDiscoveryResponse) string { return "full" }
	n1.code, n1.bad = codes.Internal, "s"
	lines[2] = "cluster c v2 mesh"
	c.set(result(lines...))
	n1.await()
	c.has("")
	c.other("n1")

	n1.refuse = nil
	lines[2] = "cluster c v3 mesh"
	c.set(result(lines...))
	n1.await()
	c.has("n1")
}
