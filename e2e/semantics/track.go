package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"heddle.io/heddle/dataplane/semantics"
)

// fillers are rules for services that nobody dials: a node has many.
const fillers = 300

// track gives both nodes a ruleset like kube-proxy's: connection tracking, a
// translation for each service address, and a drop of what tracking calls
// invalid. Enrolled pods never meet the translation, and all meet the drop.
func (b *bed) track(ctx context.Context) error {
	for _, node := range b.box.Nodes() {
		cmd, err := b.box.NodeCommand(ctx, node, "nft", "-f", "-")
		if err != nil {
			return err
		}
		cmd.Stdin = bytes.NewReader(b.ruleset())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("load rules into %s: %w: %s", node, err, out)
		}
	}
	return nil
}

func (b *bed) ruleset() []byte {
	ports := fmt.Sprintf("%d-%d", semantics.FirstPort, semantics.FirstPort+semantics.Ports-1)
	var nat strings.Builder
	for i := range fillers {
		fmt.Fprintf(&nat, "\t\tip daddr 10.96.%d.%d tcp dport 80 dnat ip to 10.244.9.9:8080\n", 100+i/250, 1+i%250)
	}
	for name, a := range services {
		for _, addr := range b.addrs[enrolled+"/"+name] {
			if addr.Is4() {
				fmt.Fprintf(&nat, "\t\tip daddr %s tcp dport %s dnat ip to %s\n", a.v4, ports, addr)
			} else {
				fmt.Fprintf(&nat, "\t\tip6 daddr %s tcp dport %s dnat ip6 to %s\n", a.v6, ports, addr)
			}
		}
	}
	return fmt.Appendf(nil, `table inet semantics {
	chain services {
%s	}
	chain prerouting {
		type nat hook prerouting priority dstnat
		jump services
	}
	chain output {
		type nat hook output priority -100
		jump services
	}
	chain forward {
		type filter hook forward priority filter
		ct state invalid drop
		ct state established,related accept
	}
}
`, nat.String())
}
