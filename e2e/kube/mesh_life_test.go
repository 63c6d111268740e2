package kube

import (
	"testing"
)

// TestMesh is the life of one mesh: what is asked of it in turn, and at the end
// that it leaves nothing.
func TestMesh(t *testing.T) {
	m := up(t, variants[0].options)
	for _, scenario := range []struct {
		name string
		run  func(*mesh)
	}{
		{"carriers", (*mesh).carriers},
		{"canary", (*mesh).canary},
		{"pods", (*mesh).kindsOfPods},
		{"load balancers", (*mesh).loadBalancers},
		{"enrol", (*mesh).enrolUnderTraffic},
		{"server rollout", (*mesh).rollOutServers},
		{"changes", (*mesh).changes},
		{"boot", (*mesh).reboot},
		{"rights", (*mesh).rights},
		{"input", (*mesh).badInput},
		{"uninstall", (*mesh).uninstall},
	} {
		t.Run(scenario.name, func(t *testing.T) { scenario.run(m.in(t)) })
	}
}
