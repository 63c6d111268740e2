package node

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/feed/feedtest"
	"heddle.io/heddle/dataplane/nettest"
)

// What the mesh is for, once, through the whole agent with all that it has on
// here: a client's connections reach two backends by their weights and are
// counted, and the floor drops what the client may not send. Other kernels run
// this for every change.
func TestSmoke(t *testing.T) {
	t.Run("plain node", func(t *testing.T) { smoke(t) })
	// The node of a cluster with kube-proxy follows connections. It must also
	// see them end: what it holds on to fills its table.
	t.Run("connection tracking", func(t *testing.T) {
		nettest.RequireBPF(t)
		nettest.TrackConnections(t)
		client, server := smoke(t)
		client.followed(t, server)
	})
}

func smoke(t *testing.T) (client, server *pod) {
	r := newRig(t)
	client = r.pod("client", "10.0.0.1", true)
	stable, canary := r.pod("stable", "10.0.0.2", true), r.pod("canary", "10.0.0.3", true)
	stable.serve(8080)
	canary.serve(8080)
	r.canary(3, stable, 1, canary)
	r.start()
	nettest.Join(t, r.config.Cgroup)
	for _, p := range []*pod{client, stable, canary} {
		if got := p.announce(); !got.Enrolled {
			t.Fatalf("%s is %+v", p.name, got)
		}
	}

	const connections = 200
	reached := map[string]uint64{}
	for range connections {
		answer, peer, err := client.dial(vip)
		if err != nil || peer != vip {
			t.Fatalf("dialled the service: %q from %s, %v", answer, peer, err)
		}
		reached[answer]++
	}
	// Each connection is a draw of its own. Five standard deviations: one good
	// run of 1.7 million fails.
	mean, deviation := connections*0.75, math.Sqrt(connections*0.75*0.25)
	if math.Abs(float64(reached["stable"])-mean) > 5*deviation || reached["stable"]+reached["canary"] != connections {
		t.Errorf("with weights 3 and 1, connections reached %v", reached)
	}
	services := get[[]api.Service](r, "/v1/services")
	if len(services) != 1 || len(services[0].Backends) != 2 {
		t.Fatalf("services are %+v", services)
	}
	for i, name := range []string{"stable", "canary"} {
		if b := services[0].Backends[i]; b.Opened != reached[name] {
			t.Errorf("%s was reached %d times, counted are %+v", name, reached[name], b)
		}
	}
	client.spoof(t, stable)
	return client, stable
}

// followed opens one more connection: the node knows that as established, and
// none when it is closed.
func (p *pod) followed(t *testing.T, server *pod) {
	t.Helper()
	known := func(n int) {
		t.Helper()
		p.rig.eventually(fmt.Sprintf("the node knows %d established connections", n), func() bool {
			return len(nettest.Connections(t)) == n
		})
	}
	known(0)
	var l net.Listener
	var near net.Conn
	var err error
	server.Do(t, func() { l, err = net.Listen("tcp4", netip.AddrPortFrom(server.address, 7001).String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p.Do(t, func() { near, err = net.DialTimeout("tcp4", l.Addr().String(), 10*time.Second) })
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	known(1)
	near.Close()
	far.Close()
	known(0)
}

// canary makes Service shop/cart with two weighted backends of one pod each.
func (r *rig) canary(weight uint32, a *pod, canaryWeight uint32, b *pod) {
	s := feedtest.Service("cart", weight)
	port := s.Ports[0]
	port.Clusters = append(port.Clusters, &xds.WeightedCluster{
		Cluster: feedtest.ClusterName("canary"), Weight: canaryWeight, Backend: "shop/canary:80",
	})
	for name, p := range map[string]*pod{"cart": a, "canary": b} {
		c := feedtest.Cluster(name)
		c.Endpoints = []*xds.Endpoint{{
			Address: p.address.AsSlice(), Port: 8080, Health: xds.Health_READY, Node: feedtest.Node, Workload: "shop/" + p.name,
		}}
		r.server.Set(xds.ClusterType, c.Name, c)
	}
	r.server.Set(xds.ServiceType, "shop/cart", s)
}

// spoof sends a datagram with an address that is not the pod's, then one with
// its own: only the second arrives.
func (p *pod) spoof(t *testing.T, server *pod) {
	t.Helper()
	const stranger = "10.0.0.99"
	var inbox *net.UDPConn
	server.Do(t, func() {
		var err error
		if inbox, err = net.ListenUDP("udp4", &net.UDPAddr{IP: server.address.AsSlice(), Port: 7000}); err != nil {
			t.Fatal(err)
		}
	})
	defer inbox.Close()
	p.Addr(t, "eth0", stranger+"/32")
	for _, from := range []string{stranger, p.address.String()} {
		p.Do(t, func() {
			c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, inbox.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte("from " + from)); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := inbox.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := inbox.Read(buf)
	if err != nil {
		t.Fatalf("the pod's own datagram did not arrive: %v", err)
	}
	if got, want := string(buf[:n]), "from "+p.address.String(); got != want {
		t.Errorf("received a datagram %q, want %q", got, want)
	}
	status := get[api.AgentStatus](p.rig, "/v1/status")
	if !slices.ContainsFunc(status.Reasons, func(c api.Count) bool { return c.Name == "spoofed_source" && c.Count > 0 }) {
		t.Errorf("no spoofed source in %v", status.Reasons)
	}
}
