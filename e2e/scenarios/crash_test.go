package scenarios

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// load is what runs while processes die: long-lived and short connections from
// both nodes.
func load(m *mesh) (long, short []*client) {
	for _, pod := range []string{"shop/client", "shop/client2"} {
		long = append(long, m.start(pod, "hold", "-n=20", "-every=20ms", "-for=10m", "10.96.1.2:80"))
		short = append(short, m.start(pod, "dial", "-rate=200", "-workers=2", "-for=10m", "10.96.1.2:80"))
	}
	return long, short
}

// unharmed ends the load and fails for every connection that was.
func unharmed(t *testing.T, long, short []*client) {
	t.Helper()
	for _, c := range append(long, short...) {
		res := c.stop()
		if res.Failed > 0 {
			t.Errorf("%s: %d connections were harmed: %v", c, res.Failed, res.Errors)
		}
		if res.Connections == 0 {
			t.Errorf("%s: made no connection", c)
		}
		for peer := range res.Peers {
			if peer != "10.96.1.2:80" {
				t.Errorf("%s: getpeername says %s, not the service", c, peer)
			}
		}
		for original := range res.Original {
			if original != "10.96.1.2:80" {
				t.Errorf("%s: SO_ORIGINAL_DST says %s, not the service", c, original)
			}
		}
	}
}

// Agents and the controller are killed again and again; connections, old and
// new, go on, and a change arrives when they are back.
func TestCrash(t *testing.T) {
	m := up(t, "shop.yaml")
	m.apply(splitRoute([]int{1, 1}))
	m.waitWeights("shop/web", []int{1, 1})
	long, short := load(m)

	ctx, cancel := context.WithTimeout(t.Context(), *soak)
	defer cancel()
	kills := 0
	for ; ctx.Err() == nil; kills++ {
		for _, node := range m.Nodes() {
			m.must(m.StopAgent(t.Context(), node, syscall.SIGKILL))
		}
		m.must(m.StopController(t.Context(), syscall.SIGKILL))
		// Every third time the agents start while the controller is away.
		if kills%3 == 0 {
			m.startAgents("")
		}
		m.must(m.StartController(t.Context(), ""))
		m.startAgents("")
		pause(ctx, 200*time.Millisecond)
	}
	t.Logf("killed everything %d times", kills)

	m.apply(splitRoute([]int{0, 1}))
	m.waitWeights("shop/web", []int{0, 1})
	unharmed(t, long, short)
}

// Nodes are upgraded to a build whose maps have another layout, and back, while
// connections go on. Nothing is lost, neither tables nor what old sockets know.
func TestUpgrade(t *testing.T) {
	m := up(t, "shop.yaml")
	m.apply(splitRoute([]int{1, 1}))
	m.waitWeights("shop/web", []int{1, 1})
	long, short := load(m)
	pause(t.Context(), time.Second)

	for i, binary := range []string{next, "", next} {
		for _, node := range m.Nodes() {
			m.must(m.StopAgent(t.Context(), node, syscall.SIGTERM))
		}
		pause(t.Context(), 300*time.Millisecond)
		m.startAgents(binary)
		weights := []int{1 + i, 2}
		m.apply(splitRoute(weights))
		m.waitWeights("shop/web", weights)
		pause(t.Context(), time.Second)
	}
	unharmed(t, long, short)
}

// The agent restarts while no controller is there: it works on with what it
// knew, and takes part again when the controller is back.
func TestControllerAway(t *testing.T) {
	m := up(t, "shop.yaml")
	m.apply(splitRoute([]int{1, 0}))
	m.waitWeights("shop/web", []int{1, 0})

	m.must(m.StopController(t.Context(), syscall.SIGKILL))
	for _, node := range m.Nodes() {
		m.must(m.StopAgent(t.Context(), node, syscall.SIGKILL))
	}
	m.startAgents("")
	for _, node := range m.Nodes() {
		m.eventually(node+" without a controller", func() error {
			status, err := m.Agent(node).Status(t.Context())
			if err != nil {
				return err
			}
			if f := status.Feed; f.Connected || !f.FromCache || !f.Synced {
				return fmt.Errorf("connected %v, from the cache %v, synced %v; want false, true, true", f.Connected, f.FromCache, f.Synced)
			}
			return nil
		})
	}
	m.waitStatus("cache")
	for _, pod := range []string{"shop/client", "shop/client2"} {
		if got := portsOf(m.reach(pod, 100, "10.96.1.2:80").By); got[0] != 100 {
			t.Errorf("%s: with the controller away the shares are %v, want all to the first backend", pod, got)
		}
	}

	m.must(m.StartController(t.Context(), ""))
	m.apply(splitRoute([]int{0, 1}))
	m.waitWeights("shop/web", []int{0, 1})
}
