package kube

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"heddle.io/heddle/e2e/peer"
)

// A client is a pod whose only process is a peer that makes connections.
type client struct {
	m    *mesh
	name string
}

// longest bounds the life of a client that nobody stops: longer than any test.
const longest = time.Hour

// start runs a peer as a pod of namespace shop, and returns when it runs. Labels
// are YAML in braces.
func (m *mesh) start(name, node, labels string, args ...string) *client {
	m.t.Helper()
	c := m.create(name, node, labels, args...)
	m.await("jsonpath={.status.phase}=Running", "pod/"+name)
	return c
}

// arguments are what stands between the brackets of a list in YAML.
func arguments(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = strconv.Quote(a)
	}
	return strings.Join(quoted, ", ")
}

// create is start without waiting.
func (m *mesh) create(name, node, labels string, args ...string) *client {
	m.t.Helper()
	m.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, labels: %s}
spec:
  nodeName: %s
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: peer, image: "%s", imagePullPolicy: Never, command: [/peer, %s]}
`, name, labels, node, peerImage, arguments(args)))
	c := &client{m, name}
	m.t.Cleanup(func() { c.remove() })
	return c
}

// dial makes short connections at a rate, hold keeps some open; both until they
// are stopped.
func (m *mesh) dial(name, node, labels, to string, rate int) *client {
	m.t.Helper()
	return m.start(name, node, labels, "dial", "-for="+longest.String(), "-rate="+strconv.Itoa(rate), "-workers="+strconv.Itoa(max(8, rate/40)), to)
}

func (m *mesh) hold(name, node, labels, to string, n int) *client {
	m.t.Helper()
	return m.start(name, node, labels, "hold", "-for="+longest.String(), "-n="+strconv.Itoa(n), to)
}

// stop ends the client and returns what it counted.
func (c *client) stop() *peer.Result {
	c.m.t.Helper()
	c.m.kubectl("exec", "-n", "shop", c.name, "--", "/bin/kill", "-TERM", "1")
	return c.wait()
}

// wait waits for the client's own end.
func (c *client) wait() *peer.Result {
	c.m.t.Helper()
	c.m.await("jsonpath={.status.phase}=Succeeded", "pod/"+c.name)
	out := c.m.kubectl("logs", "-n", "shop", c.name)
	var r peer.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		c.m.t.Fatalf("client %s: %v in %q", c.name, err, out)
	}
	return &r
}

func (c *client) remove() {
	_, _ = c.m.try("delete", "pod", "-n", "shop", c.name, "--ignore-not-found", "--grace-period=0", "--force", "--wait=false")
}

// whole checks that a client made at least so many connections, and lost none.
func (m *mesh) whole(what string, r *peer.Result, least int) {
	m.t.Helper()
	if r.Failed > 0 || r.Connections < least {
		m.t.Errorf("%s: %d connections made (at least %d expected), %d failed: %v", what, r.Connections, least, r.Failed, r.Errors)
		return
	}
	took := r.Took.Round(100 * time.Millisecond)
	if r.Exchanges > 0 {
		m.t.Logf("%s: %d connections held for %s, %d exchanges, 0 failed, answered by %v", what, r.Connections, took, r.Exchanges, r.By)
		return
	}
	m.t.Logf("%s: %d connections in %s (%.0f/s), 0 failed, slowest connect %v, answered by %v", what, r.Connections, took, r.Rate(), r.Slowest, r.By)
}

// A storm is the traffic that changes must not touch: short connections from one
// node, long ones from the other, in the mesh.
type storm struct {
	m           *mesh
	short, long *client
	rate, held  int
}

func (m *mesh) storm(to string, rate, held int) *storm {
	m.t.Helper()
	s := &storm{m: m, rate: rate, held: held}
	s.short = m.dial("short", "node1", "{}", to, rate)
	s.long = m.hold("long", "node2", "{}", to, held)
	return s
}

// end stops the traffic and checks that nothing was lost.
func (s *storm) end() {
	s.m.t.Helper()
	short, long := s.short.stop(), s.long.stop()
	s.m.whole("short connections", short, enough(short, s.rate))
	s.m.whole("long connections", long, s.held)
}

// enough is how many connections a client has to have made in its time: a tenth of
// those that it was told to. How many a busy machine has time for is another
// matter; next to none would say nothing.
func enough(r *peer.Result, rate int) int { return int(r.Took.Seconds() * float64(rate) / 10) }

// port joins an address and a port, of either family.
func port(address string, n int) string { return net.JoinHostPort(address, strconv.Itoa(n)) }
