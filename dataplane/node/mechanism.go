package node

import (
	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/attach"
)

// mechanisms says which ways of moving bytes there are besides the stack, and
// how many connections each serves now. The totals come from the tables.
func (n *Node) mechanisms() []api.Mechanism {
	count := map[string]func() (int, error){
		attach.FastPath: n.kernel.FastConnections,
		attach.SocketBypass: func() (int, error) {
			sockets, err := n.kernel.Bypassed()
			return (sockets + 1) / 2, err
		},
	}
	var all []api.Mechanism
	for _, f := range n.kernel.Features() {
		now, ok := count[f.Name]
		if !ok {
			continue
		}
		f = n.switched(f)
		m := api.Mechanism{Name: f.Name, On: f.On}
		if !f.On {
			m.Reason = f.Reason
		}
		connections, err := now()
		if err != nil {
			n.c.Log.Warn("connections of a mechanism cannot be counted", "mechanism", f.Name, "error", err)
		}
		m.Now = uint64(max(connections, 0))
		all = append(all, m)
	}
	return all
}
