package kube

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// uninstall takes Heddle out under traffic: it goes on, and nothing is left.
func (m *mesh) uninstall() {
	m.shop(50, 50)
	web := port(m.addresses("web")[0], 80)
	for node := range m.Nodes() {
		m.platform(node+1, web, "v1") // where connections go without the mesh
	}
	ctx := context.WithoutCancel(m.t.Context())
	s := m.storm(web, 200, 50)
	m.heddlectl("uninstall", "--purge")
	s.end()

	for _, n := range m.Nodes() {
		if out, err := n.Exec(ctx, filepath.Join(bin, "heddled"), "clean", "--check"); err != nil {
			m.t.Errorf("%s: something is left: %v\n%s", n.Name(), err, out)
		}
		for what, command := range map[string]string{
			"pins":          "find /sys/fs/bpf -mindepth 1 ! -name '*.debug'",
			"sockets":       "find /run/heddle -mindepth 1",
			"state":         "find /var/lib/heddle -mindepth 1",
			"conflist":      "grep -rl heddle /etc/cni/net.d",
			"plugin":        "find /opt/cni/bin -name 'heddle*'",
			"tc":            "tc filter show dev eth0 ingress; for i in $(ls /sys/class/net); do tc qdisc show dev $i clsact; done",
			"firewall":      "nft list ruleset | grep -i heddle",
			"tcx, by cause": "ip -d link show | grep -i heddle",
		} {
			if out, _ := n.Exec(ctx, "sh", "-c", "("+command+") 2>/dev/null"); strings.TrimSpace(out) != "" {
				m.t.Errorf("%s: %s left: %s", n.Name(), what, out)
			}
		}
	}
	for what, args := range map[string][]string{
		"namespace": {"get", "namespace", system, "--ignore-not-found", "-o", "name"},
		"CRDs":      {"get", "crd", "-o", "name"},
		"roles":     {"get", "clusterroles,clusterrolebindings", "-o", "name"},
		"labels":    {"get", "namespaces,pods", "-A", "-o", "jsonpath={range .items[*]}{.metadata.labels}{end}"},
	} {
		if out := m.kubectl(args...); strings.Contains(out, "heddle.io/") && what != "CRDs" || strings.Contains(out, "policy.heddle.io") || strings.Contains(out, "heddle-") {
			m.t.Errorf("%s left: %s", what, out)
		}
	}
	// Pods run on, served by the platform alone.
	r := m.create("after", "node1", "{}", "dial", "-n=200", web).wait()
	m.whole("without Heddle", r, 200)
	if r.By["v1"] != 200 {
		m.t.Errorf("without Heddle, connections were answered by %v", r.By)
	}
	m.eventually("heddlectl says that there is no Heddle", func() error {
		if out, err := m.ctl("status"); exitCode(err) == 0 {
			return fmt.Errorf("status ends with 0: %s", out)
		}
		return nil
	})
}
