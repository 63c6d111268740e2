package scenarios

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Weights change all the time while both nodes connect, two thousand times a
// second together; nobody notices, and the last weights are those in force. The
// time that each change took is printed, not judged: the machine decides it too.
func TestShift(t *testing.T) {
	m := up(t, "shop.yaml")
	m.apply(splitRoute([]int{100, 0}))
	m.waitWeights("shop/web", []int{100, 0})

	const seconds = 12
	args := []string{"dial", "-rate=1000", "-workers=4", fmt.Sprintf("-for=%ds", 10*seconds), "10.96.1.2:80"}
	one, two := m.start("shop/client", args...), m.start("shop/client2", args...)
	step := time.NewTicker(100 * time.Millisecond)
	defer step.Stop()
	took := map[string][]time.Duration{}
	for i := range seconds * 10 {
		w := i%100 + 1
		changes, err := m.Apply(t.Context(), []byte(splitRoute([]int{100 - w, w})))
		m.must(err)
		<-step.C
		for _, node := range m.Nodes() {
			took[node] = append(took[node], m.programmed(node, changes[0].Written))
		}
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
	for _, node := range m.Nodes() {
		d := took[node]
		slices.Sort(d)
		t.Logf("from the file to the kernel of %s: median %v, 99 %% %v, longest %v", node, d[len(d)/2], d[len(d)*99/100], d[len(d)-1])
	}
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

// programmed is how long after a file was written the node's kernel had the
// weights of web.
func (m *mesh) programmed(node string, written time.Time) time.Duration {
	m.t.Helper()
	var took time.Duration
	m.eventually("the change on "+node, func() error {
		s, err := m.service(node, "shop/web", 80)
		if err != nil {
			return err
		}
		if took = s.Programmed.Sub(written); took < 0 {
			return fmt.Errorf("the kernel has the change before it")
		}
		return nil
	})
	return took
}
