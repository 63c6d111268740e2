package serve_test

import (
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/serve"
)

// has waits until these nodes are known to have the Service s.
func (c *controller) has(want string) {
	c.t.Helper()
	var got serve.Progress
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got = c.Progress([]serve.Ref{{Type: xds.ServiceType, Name: "s"}})[0]; strings.Join(got.Has, " ") == want {
			return
		}
	}
	c.t.Fatalf("nodes %v have it, want %q", got.Has, want)
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
