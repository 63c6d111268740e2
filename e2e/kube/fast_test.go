package kube

import (
	"fmt"
	"strings"
)

// carriers checks that nothing is switched off in the agents' containers: there, a
// self-test meets what it does not meet as a process of the node.
func (m *mesh) carriers() {
	m.eventually("every node has its fast path and its bypass", func() error {
		out, err := m.ctl("status")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for _, node := range []string{"node1", "node2"} {
			if !hasRow(out, node, "fast_path", "socket_bypass") {
				return fmt.Errorf("node %s lacks one:\n%s", node, out)
			}
		}
		return nil
	})
}

// hasRow reports whether the row of a table that begins so has these words, too.
func hasRow(table, first string, words ...string) bool {
	for line := range strings.Lines(table) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == first {
			for _, w := range words {
				if !strings.Contains(line, w) {
					return false
				}
			}
			return true
		}
	}
	return false
}
