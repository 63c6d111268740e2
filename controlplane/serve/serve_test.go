package serve_test

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/translate"
)

// empty is what a node with nothing gets at first: an answer for each type.
var empty = []string{"Node", "Workload", "Cluster", "Service"}

func TestEachNodeGetsItsOwn(t *testing.T) {
	c := start(t)
	c.set(result(
		"node n1 a node:n1", "node n2 b node:n2",
		"workload w1 x node:n1", "workload w2 x node:n2",
		"service s x mesh", "cluster c x mesh", "service s@shop x ns:shop", "cluster both x ns:shop ns:tests",
		"n1: mesh ns:shop ns:tests", "n2: mesh", "n3: "))
	conn := c.dial()
	c.connect(conn, "n1", nil).expect("Node +n1", "Workload +w1", "Cluster +both +c", "Service +s +s@shop")
	c.connect(conn, "n2", nil).expect("Node +n2", "Workload +w2", "Cluster +c", "Service +s")
	c.connect(conn, "n3", nil).expect(empty...)
	c.connect(conn, "unknown", nil).expect(empty...)
}

// TestEncodedOnce: however many nodes get a resource, and only those that need it.
func TestEncodedOnce(t *testing.T) {
	const nodes = 100
	lines := []string{"service s v1 mesh", "service other v1 mesh", "cluster c v1 mesh", "idle: "}
	for i := range nodes {
		lines = append(lines, fmt.Sprintf("n%d: mesh", i))
	}
	c := start(t)
	c.set(result(lines...))
	idle := c.connect(c.dial(), "idle", nil)
	idle.expect(empty...)
	all := c.fleet(make([]map[string]map[string]string, nodes))
	for _, n := range all {
		if len(n.has[xds.ServiceType]) != 2 || len(n.has[xds.ClusterType]) != 1 {
			t.Fatalf("node %s has %v", n.name, n.has)
		}
	}
	if got := c.Totals(); got.Encoded != 3 || got.Sent != 3*nodes {
		t.Errorf("encoded %d and sent %d resources, want 3 and %d", got.Encoded, got.Sent, 3*nodes)
	}
	lines[0] = "service s v2 mesh"
	c.set(result(lines...))
	for _, n := range all {
		n.expect("Service +s")
	}
	if got := c.Totals(); got.Encoded != 4 || got.Sent != 4*nodes {
		t.Errorf("after a change: encoded %d and sent %d resources, want 4 and %d", got.Encoded, got.Sent, 4*nodes)
	}
	c.set(result(lines...)) // the same again
	if got := c.Totals(); got.Encoded != 4 || got.Batches != 3 {
		t.Errorf("after no change: encoded %d in %d batches, want 4 in 3", got.Encoded, got.Batches)
	}
	all[0].silent()
	idle.silent()
}

func TestAudiencesOfANodeChange(t *testing.T) {
	c := start(t)
	resources := []string{"service s x mesh", "cluster c x mesh", "service s@shop x ns:shop"}
	set := func(node string) { c.set(result(append(resources, node)...)) }
	set("n1: ")
	n := c.connect(c.dial(), "n1", nil)
	n.expect(empty...)
	set("n1: mesh")
	n.expect("Cluster +c", "Service +s")
	set("n1: mesh ns:shop")
	n.expect("Service +s@shop")
	set("n1: mesh ns:empty") // an audience without resources
	n.expect("Service -s@shop")
	set("n1: mesh ns:other")
	n.silent()
	set("other: mesh") // the node is not known any more
	n.expect("Cluster -c", "Service -s")
}

func TestAResourceChangesItsAudience(t *testing.T) {
	c := start(t)
	nodes := []string{"n1: mesh ns:shop", "n2: mesh"}
	c.set(result(append(nodes, "cluster c x ns:shop")...))
	conn := c.dial()
	n1, n2 := c.connect(conn, "n1", nil), c.connect(conn, "n2", nil)
	n1.expect("Node", "Workload", "Cluster +c", "Service")
	n2.expect(empty...)
	c.set(result(append(nodes, "cluster c x mesh")...))
	n2.expect("Cluster +c")
	n1.silent() // it has it already
	if got := c.Totals().Encoded; got != 1 {
		t.Errorf("encoded %d times, want once", got)
	}
	c.set(result(append(nodes, "cluster c x ns:shop")...))
	n2.expect("Cluster -c")
	n1.silent()
}

// TestReconnect: a node that comes back gets only what differs, also from a
// controller that has just started.
func TestReconnect(t *testing.T) {
	c := start(t)
	before := []string{"n1: mesh", "service a v1 mesh", "service b v1 mesh", "service gone v1 mesh", "cluster c v1 mesh"}
	c.set(result(before...))
	n := c.connect(c.dial(), "n1", nil)
	n.expect("Node", "Workload", "Cluster +c", "Service +a +b +gone")

	c.restart(result(before...))
	again := c.connect(c.dial(), "n1", maps.Clone(n.has))
	again.expect(empty...) // told that it has everything
	if got := c.Totals().Sent; got != 0 {
		t.Errorf("%d resources sent again", got)
	}

	c.restart(result("n1: mesh", "service a v1 mesh", "service b v2 mesh", "service new v1 mesh", "cluster c v1 mesh"))
	c.connect(c.dial(), "n1", again.has).expect("Node", "Workload", "Cluster", "Service +b +new -gone")
}

// TestNothingIsSaidBeforeTheFirstSet: a controller that knows nothing yet must not
// look like one of an empty cluster.
func TestNothingIsSaidBeforeTheFirstSet(t *testing.T) {
	c := start(t)
	n := c.connect(c.dial(), "n1", map[string]map[string]string{xds.ServiceType: {"s": "old"}})
	n.silent()
	c.set(result("n1: mesh", "service new x mesh"))
	n.expect("Node", "Workload", "Cluster", "Service +new -s")
}

func TestNack(t *testing.T) {
	c := start(t)
	c.set(result("n1: mesh", "service s v1 mesh"))
	n := c.open(c.dial(), "n1")
	n.refuse = func(r *discovery.DeltaDiscoveryResponse) string {
		if r.TypeUrl == xds.ServiceType && len(r.Resources) == 1 && r.Resources[0].Name == "s" {
			return "s: not to my \x1b[31mtaste\n"
		}
		return ""
	}
	n.send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "n1"}, TypeUrl: xds.ServiceType})
	go n.receive()
	n.expect("Service +s")
	n.silent() // what was refused is not sent again and again
	nodes := c.Nodes()
	if len(nodes) != 1 || nodes[0].Nacks != 1 || nodes[0].LastNack == nil || nodes[0].LastNack.Error != "s: not to my ?[31mtaste?" ||
		nodes[0].LastNack.Type != xds.ServiceType || len(nodes[0].Refused) != 1 {
		t.Fatalf("nodes %+v, want one with a refusal", nodes)
	}
	c.set(result("n1: mesh", "service s v1 mesh", "service t v1 mesh"))
	n.expect("Service +t") // good news still come
	n.silent()
	if got := c.Nodes()[0]; got.Acks != 1 || got.Nacks != 1 || len(got.Refused) > 0 || got.Resources != 2 {
		t.Errorf("node %+v, want one acknowledgement, one refusal, two resources", got)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	c := start(t)
	c.set(result("n1: mesh", "service s v1 mesh"))
	conn := c.dial()
	first, second := c.connect(conn, "n1", nil), c.connect(conn, "n1", nil)
	first.expect("Node", "Workload", "Cluster", "Service +s")
	second.expect("Node", "Workload", "Cluster", "Service +s")
	if nodes := c.Nodes(); len(nodes) != 1 || nodes[0].Name != "n1" || nodes[0].Resources != 1 {
		t.Errorf("nodes %+v, want n1 once", nodes)
	}
	first.close()
	second.close()
	for start := time.Now(); len(c.Nodes()) > 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("nodes %+v, want none", c.Nodes())
		}
	}
	c.set(result("n1: mesh", "service s v2 mesh")) // to nobody
}

// TestSlowNode: a node that reads nothing delays nobody, and costs nothing more
// with each change.
func TestSlowNode(t *testing.T) {
	c := start(t)
	services := func(version string) *translate.Result {
		lines := []string{"slow: mesh", "quick: mesh"}
		for i := range 300 {
			lines = append(lines, fmt.Sprintf("service s%d %s%s mesh", i, version, strings.Repeat("x", 2000)))
		}
		return result(lines...)
	}
	c.set(services("v0"))
	slow := c.open(c.dial(), "slow")
	slow.send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "slow"}, TypeUrl: xds.ServiceType})
	quick := c.connect(c.dial(), "quick", nil)
	for range xds.Types {
		quick.await()
	}
	for i := range 50 {
		start := time.Now()
		c.set(services(fmt.Sprint("v", i+1)))
		quick.await()
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("change %d took %s", i, took)
		}
	}
	go slow.receive()
	slow.await() // the first, long ago
	if got := slow.await(); strings.Count(got, "+") != 300 {
		t.Errorf("then %.100s, want all that changed at once", got)
	}
	slow.silent()
}

func TestWhatIsNotServed(t *testing.T) {
	long := strings.Repeat("n", 254)
	wildcard := []string{"*"}
	for name, c := range map[string]struct {
		requests []*discovery.DeltaDiscoveryRequest
		says     string
	}{
		"no node":         {[]*discovery.DeltaDiscoveryRequest{{TypeUrl: xds.ServiceType}}, "which node"},
		"bad node":        {[]*discovery.DeltaDiscoveryRequest{{TypeUrl: xds.ServiceType, Node: &core.Node{Id: "a\nb"}}}, `node "a?b" is not`},
		"long node":       {[]*discovery.DeltaDiscoveryRequest{{TypeUrl: xds.ServiceType, Node: &core.Node{Id: long}}}, "is not the name"},
		"forged audience": {[]*discovery.DeltaDiscoveryRequest{{TypeUrl: xds.ServiceType, Node: &core.Node{Id: "x node:y"}}}, "is not the name"},
		"another node": {[]*discovery.DeltaDiscoveryRequest{
			{TypeUrl: xds.NodeType, Node: &core.Node{Id: "n1"}}, {TypeUrl: xds.ServiceType, Node: &core.Node{Id: "n2"}}}, `says node "n2"`},
		"no longer a node": {[]*discovery.DeltaDiscoveryRequest{
			{TypeUrl: xds.NodeType, Node: &core.Node{Id: "n1"}}, {TypeUrl: xds.ServiceType, Node: &core.Node{}}}, `says node ""`},
		"a named resource": {[]*discovery.DeltaDiscoveryRequest{
			{TypeUrl: xds.ServiceType, Node: &core.Node{Id: "n1"}, ResourceNamesSubscribe: []string{"*", "s"}}}, "only wildcard"},
		"unsubscribing": {[]*discovery.DeltaDiscoveryRequest{
			{TypeUrl: xds.ServiceType, Node: &core.Node{Id: "n1"}, ResourceNamesSubscribe: wildcard},
			{TypeUrl: xds.ServiceType, ResourceNamesUnsubscribe: []string{"s"}}}, "only wildcard"},
		"no type": {[]*discovery.DeltaDiscoveryRequest{{Node: &core.Node{Id: "n1"}}}, "type URL is required"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.set(result("n1: mesh", "service s x mesh"))
			n := s.open(s.dial(), "n1")
			for _, r := range c.requests {
				n.send(r)
			}
			var err error
			for err == nil {
				_, err = n.stream.Recv()
			}
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, it should say %q", err, c.says)
			}
		})
	}
}

// TestUnknownTypes: a newer node gets what this version has.
func TestUnknownTypes(t *testing.T) {
	c := start(t)
	c.set(result("n1: mesh", "service s x mesh"))
	n := c.open(c.dial(), "n1")
	request := func(typeURL string) {
		n.send(&discovery.DeltaDiscoveryRequest{TypeUrl: typeURL, Node: &core.Node{Id: "n1"}, ResourceNamesSubscribe: []string{"*"}})
	}
	request("type.googleapis.com/heddle.v9.Wonder")
	request(xds.ServiceType)
	go n.receive()
	n.expect("Service +s")
	n.silent()
	for i := range 20 { // but not without end
		_ = n.stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: fmt.Sprint("t", i)})
	}
	if err := <-n.ended; status.Code(err) != codes.InvalidArgument {
		t.Errorf("after 20 types: %v", err)
	}
}

func TestStateOfTheWorldIsRefused(t *testing.T) {
	c := start(t)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(c.dial()).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("error %v, want Unimplemented", err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	c := startBounded(t, 2)
	c.set(result("n1: mesh"))
	conn := c.dial()
	first := c.connect(conn, "n1", nil)
	first.expect(empty...)
	c.connect(conn, "n2", nil).expect(empty...)
	third := c.open(conn, "n3")
	if _, err := third.stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("the third stream: %v", err)
	}
	first.close()
	for start := time.Now(); len(c.Nodes()) > 1; time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatal("a closed stream still counts")
		}
	}
	c.connect(conn, "n3", nil).expect(empty...)
}

func TestResponseTooLarge(t *testing.T) {
	c := start(t)
	lines := []string{"n1: mesh"}
	for i := range 16 {
		lines = append(lines, fmt.Sprintf("service s%d %s mesh", i, strings.Repeat("x", 4<<20)))
	}
	c.set(result(lines...))
	n := c.connect(c.dial(), "n1", nil)
	err := <-n.ended
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "lacks 16 resources") {
		t.Errorf("error %v, it should say what is too large", err)
	}
}

// TestManyNodesReconnect: a thousand nodes come back at once to a controller that
// has just started, and then a change reaches all of them.
func TestManyNodesReconnect(t *testing.T) {
	const nodes, services = 1000, 200
	var lines []string
	for i := range nodes {
		lines = append(lines, fmt.Sprintf("n%d: mesh", i), fmt.Sprintf("node n%d z node:n%d", i, i), fmt.Sprintf("workload w%d z node:n%d", i, i))
	}
	for i := range services {
		lines = append(lines, fmt.Sprintf("service s%d v1 mesh", i), fmt.Sprintf("cluster c%d v1 mesh", i))
	}
	c := start(t)
	c.set(result(lines...))
	has := make([]map[string]map[string]string, nodes)
	all := c.fleet(has)
	for i, n := range all {
		has[i] = n.has
	}
	c.restart(result(lines...))
	begin := time.Now()
	all = c.fleet(has)
	t.Logf("%d nodes reconnected in %s", nodes, time.Since(begin))
	if got := c.Totals(); got.Sent != 0 || got.Encoded != 2*nodes+2*services {
		t.Errorf("sent %d resources and encoded %d, want 0 and %d", got.Sent, got.Encoded, 2*nodes+2*services)
	}

	lines[len(lines)-1] = fmt.Sprintf("cluster c%d v2 mesh", services-1)
	begin = time.Now()
	c.set(result(lines...))
	for _, n := range all {
		n.expect(fmt.Sprintf("Cluster +c%d", services-1))
	}
	t.Logf("a change reached %d nodes in %s", nodes, time.Since(begin))
	if got := c.Totals(); got.Sent != nodes || got.Encoded != 2*nodes+2*services+1 {
		t.Errorf("after a change sent %d resources and encoded %d", got.Sent, got.Encoded)
	}
	lines[2] = "workload w0 changed node:n0"
	c.set(result(lines...))
	all[0].expect("Workload +w0")
	all[1].silent()
	if got := c.Totals(); got.Sent != nodes+1 {
		t.Errorf("a pod of one node was sent %d times", got.Sent-nodes)
	}
}

// fleet connects many nodes at once, ten to a connection, and waits until each has
// an answer for every type.
func (c *controller) fleet(has []map[string]map[string]string) []*node {
	c.t.Helper()
	out := make([]*node, len(has))
	var connections []*grpc.ClientConn
	for range (len(has) + 9) / 10 {
		connections = append(connections, c.dial())
	}
	var wait sync.WaitGroup
	for i := range has {
		wait.Go(func() { out[i] = c.connect(connections[i/10], fmt.Sprint("n", i), has[i]) })
	}
	wait.Wait()
	for _, n := range out {
		for range xds.Types {
			n.await()
		}
	}
	return out
}

// TestPodsComeLast: a pod that enters the mesh is captured when its node learns of
// it. By then the node has to know the Services, or the pod's first connections go
// around them.
func TestPodsComeLast(t *testing.T) {
	c := start(t)
	c.set(result("node n1 a node:n1", "workload w out node:n1", "service s x mesh", "cluster c x mesh", "n1: "))
	n := c.connect(c.dial(), "n1", nil)
	n.expect("Node +n1", "Workload +w", "Cluster", "Service")
	// An answer is in order only with those that are sent at once: the last of
	// the first ones has to be acknowledged.
	n.silent()
	c.set(result("node n1 a node:n1", "workload w in node:n1", "service s x mesh", "cluster c x mesh", "n1: mesh"))
	for _, want := range []string{"Cluster +c", "Service +s", "Workload +w"} {
		if got := n.await(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}
