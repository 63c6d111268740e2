package scenarios

import (
	"fmt"
	"testing"
	"time"
)

// Weights change all the time while both nodes connect; nobody notices, and the
// last weights are those in force.
func TestShift(t *testing.T) {
	m := up(t, "shop.yaml")
	m.apply(splitRoute([]int{100, 0}))
	m.waitWeights("shop/web", []int{100, 0})

	const seconds = 12
	args := []string{"dial", "-rate=1000", "-workers=4", fmt.Sprintf("-for=%ds", 10*seconds), "10.96.1.2:80"}
	one, two := m.start("shop/client", args...), m.start("shop/client2", args...)
	step := time.NewTicker(100 * time.Millisecond)
	defer step.Stop()
	for i := range seconds * 10 {
		<-step.C
		w := i % 101
		m.apply(splitRoute([]int{100 - w, w}))
	}
	m.apply(splitRoute([]int{0, 100}))
	m.waitWeights("shop/web", []int{0, 100})

	total := 0
	for _, c := range []*client{one, two} {
		res := c.stop()
		total += res.Connections
		if res.Failed > 0 {
			t.Errorf("%s: %d connections failed: %v", c.pod, res.Failed, res.Errors)
		}
		for peer := range res.Peers {
			if peer != "10.96.1.2:80" {
				t.Errorf("%s: getpeername says %s, not the service", c.pod, peer)
			}
		}
	}
	t.Logf("%d connections during %d changes", total, seconds*10)
	if total < seconds*200 {
		t.Errorf("only %d connections in %d s: too few to say anything", total, seconds)
	}
	for _, pod := range []string{"shop/client", "shop/client2"} {
		res := m.peer(pod, "dial", "-n=500", "10.96.1.2:80")
		if got := portsOf(res.By); got[1] != 500 {
			t.Errorf("%s: after the shift to the second backend, its connections went to %v", pod, res.By)
		}
	}
}
