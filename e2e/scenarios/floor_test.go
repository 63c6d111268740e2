package scenarios

import (
	"fmt"
	"testing"

	"heddle.io/heddle/install/sandbox"
)

// What leaves an enrolled pod past the hooks on sockets meets the programs on
// its interface, however they are attached.
func TestFloor(t *testing.T) {
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) { testFloor(t, mode) })
	}
}

func testFloor(t *testing.T, mode string) {
	m := upWith(t, sandbox.Options{AgentArgs: []string{"--tc=" + mode}}, "shop.yaml")
	m.waitServices("shop/web")
	server := m.podIP("shop/backend-2", false) + ":8001"
	reason := func(m *mesh, code string, by uint64, act func()) {
		m.t.Helper()
		before := m.reasons("node1")[code]
		act()
		m.eventually(code, func() error {
			if got := m.reasons("node1")[code] - before; got < by {
				return fmt.Errorf("%s was counted %d times, want %d", code, got, by)
			}
			return nil
		})
	}

	t.Run("a source address of another pod is dropped", func(t *testing.T) {
		m := m.in(t)
		reason(m, "spoofed_source", 10, func() {
			m.sent(m.peer("shop/client", "raw", "-n=10", "-source="+m.podIP("shop/backend-1", false), server), 10)
		})
	})
	t.Run("its own source address is not", func(t *testing.T) {
		m := m.in(t)
		before := m.reasons("node1")["spoofed_source"]
		m.sent(m.peer("shop/client", "raw", "-n=10", "-source="+m.podIP("shop/client", false), server), 10)
		m.reach("shop/client", 1, server, "-udp") // behind them on the same way
		if got := m.reasons("node1")["spoofed_source"] - before; got != 0 {
			t.Errorf("%d packets with the pod's own address were dropped", got)
		}
	})
	t.Run("a raw packet to a service is counted", func(t *testing.T) {
		m := m.in(t)
		m.apply(udpService)
		m.waitServices("shop/talk")
		reason(m, "service_unhooked", 10, func() {
			m.sent(m.peer("shop/client", "raw", "-n=10", "-source="+m.podIP("shop/client", false), "10.96.1.20:53"), 10)
		})
	})
	t.Run("a socket bound to the interface is translated all the same", func(t *testing.T) {
		answeredBy(t, m.in(t).reach("shop/client", 20, "10.96.1.2:80", "-device=eth0"), "backend")
	})
	t.Run("traffic is counted", func(t *testing.T) {
		m := m.in(t)
		m.reach("shop/client", 20, "10.96.1.2:80")
		pods, err := m.Agent("node1").Pods(t.Context())
		m.must(err)
		for _, p := range pods {
			if p.Mode != mode {
				t.Errorf("pod %s/%s is attached by %q, want %s", p.Namespace, p.Name, p.Mode, mode)
			}
			if p.Namespace == "shop" && p.Name == "client" && (p.RxPackets < 20 || p.TxPackets < 20 || p.Dropped < 10) {
				t.Errorf("the pod's counters: %d packets from it, %d to it, %d dropped; want at least 20, 20, 10", p.RxPackets, p.TxPackets, p.Dropped)
			}
		}
	})
}

const udpService = `
apiVersion: v1
kind: Service
metadata: {name: talk, namespace: shop}
spec:
  clusterIP: 10.96.1.20
  selector: {app: backend}
  ports:
  - {name: talk, port: 53, targetPort: 8001, protocol: UDP}
`

// sent fails unless the pod's own stack took n packets.
func (m *mesh) sent(res *result, n int) {
	m.t.Helper()
	if res.Connections != n {
		m.t.Errorf("%d of %d packets were sent: %v", res.Connections, n, res.Errors)
	}
}
