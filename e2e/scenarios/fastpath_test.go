package scenarios

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"heddle.io/heddle/install/sandbox"
)

// nodeRules are what kube-proxy and many CNI plugins have on a node: conntrack,
// and no mercy for packets that it finds out of place.
const nodeRules = `table inet node {
	chain forward {
		type filter hook forward priority 0; policy accept;
		ct state invalid counter name "invalid" drop
	}
	counter invalid {}
}`

// nodeRun runs a program on a node and returns what it prints.
func (m *mesh) nodeRun(node string, input string, argv ...string) string {
	m.t.Helper()
	cmd, err := m.NodeCommand(m.t.Context(), node, argv...)
	m.must(err)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s on %s: %v: %s", strings.Join(argv, " "), node, err, out)
	}
	return string(out)
}

// restartAgents ends the agents by a signal and starts them with these flags.
func (m *mesh) restartAgents(sig syscall.Signal, flags ...string) {
	m.t.Helper()
	for _, node := range m.Nodes() {
		m.must(m.StopAgent(m.t.Context(), node, sig))
	}
	s, err := sandbox.New(sandbox.Options{Name: m.Name(), Bin: bin, AgentArgs: flags})
	m.must(err)
	for _, node := range m.Nodes() {
		m.must(s.StartAgent(m.t.Context(), node, ""))
	}
}

// outOfPlace is how many packets the rules have dropped.
func (m *mesh) outOfPlace(node string) (packets int) {
	m.t.Helper()
	out := m.nodeRun(node, "", "nft", "list", "counter", "inet", "node", "invalid")
	if _, err := fmt.Sscanf(out[max(0, strings.Index(out, "packets ")):], "packets %d", &packets); err != nil {
		m.t.Fatalf("no number of packets in %s: %v", out, err)
	}
	return packets
}

// fast is how many connections of a node are on the fast path.
func (m *mesh) fast(node string) (int, error) {
	maps, err := m.Agent(node).Maps(m.t.Context())
	if err != nil {
		return 0, err
	}
	for _, table := range maps {
		if table.Name == "hd_fast" {
			return table.Entries, nil
		}
	}
	return 0, fmt.Errorf("%s has no table of the fast path", node)
}

func (m *mesh) waitFast(node string, want int) {
	m.t.Helper()
	m.eventually(fmt.Sprintf("%d connections on the fast path of %s", want, node), func() error {
		n, err := m.fast(node)
		if err == nil && n != want {
			err = fmt.Errorf("there are %d", n)
		}
		return err
	})
}

// 500 connections between two pods of a node live through everything that takes
// them off the fast path, and those that are made meanwhile work as well.
func TestFastPathFallsBack(t *testing.T) {
	const open = 500
	leave := map[string]func(m *mesh){
		"agent killed": func(m *mesh) {
			m.restartAgents(syscall.SIGKILL)
			m.waitFast("node1", open)
		},
		"switched off": func(m *mesh) {
			m.restartAgents(syscall.SIGTERM, "--fast-path=off")
			m.waitFast("node1", 0)
			m.waitStatus("without fast_path: ", "--fast-path=off")
		},
		"out of the mesh": func(m *mesh) {
			m.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {heddle.io/mesh: disabled}}\n")
			m.waitFast("node1", 0)
		},
		"table full": func(m *mesh) {
			m.reach("shop/client", 50, m.podIP("shop/backend-1", false)+":8002")
			m.waitFast("node1", 60) // one pod's share of 480
			if m.reasons("node1")["fast_share"] == 0 {
				m.t.Error("no connection was counted as beyond its pod's share")
			}
		},
	}
	for name, change := range leave {
		t.Run(name, func(t *testing.T) {
			options := sandbox.Options{}
			most := open
			if name == "table full" {
				options.AgentArgs, most = []string{"--max-fast=480"}, 60
			}
			m := upWith(t, options, "shop.yaml")
			m.nodeRun("node1", nodeRules, "nft", "-f", "-")
			to := m.podIP("shop/backend-1", false) + ":8001"
			held := m.start("shop/client", "hold", fmt.Sprintf("-n=%d", open), "-every=100ms", "-for=10m", to)
			m.waitFast("node1", most)
			pause(t.Context(), 500*time.Millisecond) // exchanges that conntrack does not see
			change(m)
			m.reach("shop/client", 100, to)
			pause(t.Context(), time.Second)
			res := held.stop()
			if res.Failed > 0 || res.Connections != open || res.Exchanges < 3*open {
				t.Errorf("%d of %d connections were harmed: %v; %d exchanges", res.Failed, open, res.Errors, res.Exchanges)
			}
			m.waitFast("node1", 0)
			m.eventually("conntrack forgets", func() error {
				out := m.nodeRun("node1", "", "conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED")
				if n := strings.Count(out, "ESTABLISHED"); n > 0 {
					return fmt.Errorf("%d established connections are left:\n%s", n, out)
				}
				return nil
			})
			// A connection that is made while the others go over to the stack may
			// lose a packet, which it sends again.
			if n := m.outOfPlace("node1"); n > open/100 {
				t.Errorf("conntrack found %d packets out of place", n)
			}
		})
	}
}
