package node

import (
	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/attach"
)

// mechanisms says which ways of moving bytes there are besides the stack, and
// how many connections each carries now. The totals come from the tables.
func (n *Node) mechanisms() []api.Mechanism {
	bypassed, fast := n.carried(n.kernel.BypassedConnections), n.carried(n.kernel.FastConnections)
	now := map[string]int{
		attach.SocketBypass: bypassed,
		attach.FastPath:     max(fast-bypassed, 0), // of those it has the handshake and the end
	}
	var all []api.Mechanism
	for _, f := range n.kernel.Features() {
		count, ok := now[f.Name]
		if !ok {
			continue
		}
		f = n.switched(f)
		m := api.Mechanism{Name: f.Name, On: f.On, Now: uint64(count)}
		if !f.On {
			m.Reason = f.Reason
		}
		all = append(all, m)
	}
	return all
}

// carried counts connections, as far as that is possible.
func (n *Node) carried(count func() (int, error)) int {
	connections, err := count()
	if err != nil {
		n.c.Log.Warn("connections cannot be counted", "error", err)
	}
	return max(connections, 0)
}
