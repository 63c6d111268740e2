package feed

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/feed/feedtest"
	"heddle.io/heddle/dataplane/state"
)

func TestFollowsChangesAndRemovals(t *testing.T) {
	s := feedtest.New(t)
	s.SetShop()
	c := follow(t, s)
	u := c.until(hasWeight("cart", 1))
	if u.FromCache {
		t.Error("the first update claims to come from the cache")
	}
	if got := u.Snapshot.Node; !reflect.DeepEqual(got, state.Node{Name: node, Zone: "z1"}) {
		t.Errorf("node is %+v", got)
	}
	if w := u.Snapshot.Workloads["shop/web"]; !w.Mesh || len(w.Addresses) != 1 {
		t.Errorf("workload is %+v", w)
	}
	if n := len(u.Snapshot.Clusters[feedtest.ClusterName("cart")].Endpoints); n != 2 {
		t.Errorf("%d endpoints, want 2", n)
	}

	s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 7))
	c.until(hasWeight("cart", 7))
	s.Remove(xds.WorkloadType, "shop/web")
	c.until("no workload", func(s *state.Snapshot) bool { return len(s.Workloads) == 0 })

	// An acknowledgement is counted after its update is published.
	eventually(t, "six acknowledgements", func() bool { return c.Status().Acks >= 6 })
	status := c.Status()
	if !status.Connected || !status.Synced || status.FromCache || status.Nacks != 0 {
		t.Errorf("status is %+v", status)
	}
}

// Before every type is known there is nothing to put in force: an empty
// snapshot would empty the kernel's tables.
func TestPublishesNothingWithoutServer(t *testing.T) {
	s := feedtest.New(t)
	s.Kill()
	c := follow(t, s)
	eventually(t, "an error in the status", func() bool { return c.Status().Error != "" })
	select {
	case u := <-c.Updates():
		t.Fatalf("published %+v", u)
	default:
	}
	if status := c.Status(); status.Synced || status.Connected {
		t.Errorf("status is %+v", status)
	}
}

func TestEmptyServerIsSynced(t *testing.T) {
	c := follow(t, feedtest.New(t))
	c.until("nothing in it", func(s *state.Snapshot) bool { return len(s.Services) == 0 })
	if !c.Status().Synced {
		t.Error("not synced")
	}
}

// A bad resource is refused by name; the good ones beside it are applied, and
// what was known of the bad one stays.
func TestBadResourceKeepsLastGood(t *testing.T) {
	s := feedtest.New(t)
	s.SetShop()
	s.Set(xds.ClusterType, feedtest.ClusterName("bad"), feedtest.Cluster("bad", 3))
	s.Set(xds.ServiceType, "shop/bad", feedtest.Service("bad", 1))
	c := follow(t, s)
	c.until(hasWeight("bad", 1))

	bad := feedtest.Service("bad", 2)
	bad.Ports[0].Port = 70000
	s.Set(xds.ServiceType, "shop/bad", bad)
	eventually(t, "a NACK", func() bool { return len(s.Nacks()) > 0 })
	if text := s.Nacks()[0]; !strings.Contains(text, "shop/bad: ports[0]: port is 70000") {
		t.Errorf("the NACK says %q", text)
	}
	s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 5))
	u := c.until(hasWeight("cart", 5))
	if w := u.Snapshot.Services["shop/bad"].Ports[0].Clusters[0].Weight; w != 1 {
		t.Errorf("weight of the refused service is %d, want the last good 1", w)
	}
	status := c.Status()
	if status.Nacks != 1 || status.LastNack == nil || status.LastNack.Resource != "shop/bad" || status.LastNack.Type != "Service" {
		t.Errorf("status is %+v, last NACK %+v", status, status.LastNack)
	}
	if got := problemReasons(c.Problems()); !slices.Equal(got, []string{"Service shop/bad ResourceRefused"}) {
		t.Errorf("problems are %v", got)
	}

	// Still refused after a reconnect, because its old version is announced.
	s.Kill()
	s.Start()
	eventually(t, "a second NACK", func() bool { return len(s.Nacks()) > 1 })
	s.Set(xds.ServiceType, "shop/bad", feedtest.Service("bad", 3))
	c.until(hasWeight("bad", 3))
	if got := c.Problems(); len(got) != 0 {
		t.Errorf("problems after the repair: %v", got)
	}
}

func TestReconnectsAndCatchesUp(t *testing.T) {
	s := feedtest.New(t)
	s.SetShop()
	c := follow(t, s)
	c.until(hasWeight("cart", 1))
	for i := range uint32(5) {
		s.Kill()
		eventually(t, "disconnected", func() bool { return !c.Status().Connected })
		s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 10+i))
		s.Start()
		started := time.Now()
		c.until(hasWeight("cart", 10+i))
		if took := time.Since(started); took > 3*time.Second {
			t.Errorf("caught up after %v", took)
		}
	}
	// What it announced was the version it had, so only the difference came.
	subs := s.Subscriptions()
	if last := subs[len(subs)-1]; last["shop/cart"] == "" {
		t.Errorf("subscribed anew with versions %v", last)
	}
	// What was removed while away is removed here.
	s.Kill()
	s.Remove(xds.ServiceType, "shop/cart")
	s.Start()
	c.until("no service", func(s *state.Snapshot) bool { return len(s.Services) == 0 })
}

func TestManyRapidChangesEndInTheLast(t *testing.T) {
	s := feedtest.New(t)
	s.SetShop()
	c := follow(t, s)
	c.until(hasWeight("cart", 1))
	for i := range uint32(100) {
		s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 100+i))
		s.Set(xds.ClusterType, feedtest.ClusterName("cart"), feedtest.Cluster("cart", byte(i+1)))
	}
	c.until("the last endpoint and weight", func(s *state.Snapshot) bool {
		e := s.Clusters[feedtest.ClusterName("cart")].Endpoints
		_, ok := hasWeight("cart", 199)
		return ok(s) && len(e) == 1 && e[0].Address.Addr().As4()[3] == 100
	})
}

// A service that moves to a cluster which arrives later keeps its old cluster
// until then.
func TestServiceWaitsForItsCluster(t *testing.T) {
	s := feedtest.New(t)
	s.SetShop()
	c := follow(t, s)
	c.until(hasWeight("cart", 1))

	moved := feedtest.Service("cart", 9)
	moved.Ports[0].Clusters[0].Cluster = feedtest.ClusterName("cart-v2")
	s.Set(xds.ServiceType, "shop/cart", moved)
	s.Remove(xds.ClusterType, feedtest.ClusterName("cart"))
	c.until("the old service with the old cluster", func(s *state.Snapshot) bool {
		_, old := hasWeight("cart", 1)
		return old(s) && len(s.Clusters[feedtest.ClusterName("cart")].Endpoints) == 2
	})
	s.Set(xds.ClusterType, feedtest.ClusterName("cart-v2"), feedtest.Cluster("cart-v2", 8))
	u := c.until(hasWeight("cart", 9))
	if len(u.Snapshot.Clusters) != 1 {
		t.Errorf("clusters are %v", u.Snapshot.Clusters)
	}

	// It does not wait for ever.
	s.Remove(xds.ClusterType, feedtest.ClusterName("cart-v2"))
	c.until("the service without its cluster", func(s *state.Snapshot) bool {
		return len(s.Services) == 1 && len(s.Clusters) == 0
	})
	if got := problemReasons(c.Problems()); !slices.Equal(got, []string{"Service shop/cart ClusterMissing"}) {
		t.Errorf("problems are %v", got)
	}
}

func TestServerAddresses(t *testing.T) {
	for server, want := range map[string]string{
		"unix:///run/heddle/xds.sock": "",
		"unix://run/xds.sock":         "must be absolute",
		"127.0.0.1:15010":             "",
		"[::1]:15010":                 "",
		"localhost:15010":             "",
		"10.0.0.1:15010":              "no TLS",
		"15010":                       "neither",
		"":                            "neither",
	} {
		_, err := New(Options{Server: server, Node: node})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("server %q: error %v, want %q", server, err, want)
		}
	}
}

// A resource that was never good and is removed while the node is away: the
// server does not say so, because the node never claimed to have it.
func TestRefusalEndsWithTheResource(t *testing.T) {
	s := feedtest.New(t)
	s.SetShop()
	bad := feedtest.Service("bad", 1)
	bad.Ports[0].Port = 70000
	s.Set(xds.ServiceType, "shop/bad", bad)
	c := follow(t, s)
	eventually(t, "a refusal", func() bool { return len(c.Problems()) > 0 })

	s.Kill()
	eventually(t, "disconnected", func() bool { return !c.Status().Connected })
	if len(c.Problems()) == 0 {
		t.Error("the refusal is forgotten before the server says anything")
	}
	s.Remove(xds.ServiceType, "shop/bad")
	s.Start()
	eventually(t, "no problem", func() bool { return len(c.Problems()) == 0 })
}
