package kube

import (
	"testing"
	"time"
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
		// What fails may do so late. A run that is cut off in the end says nothing.
		if end, ok := t.Deadline(); ok && t.Failed() && time.Until(end) < 2*patience {
			m.t.Errorf("%s, and what comes after it, is not tried: too little time is left", scenario.name)
			break
		}
		t.Run(scenario.name, func(t *testing.T) { scenario.run(m.in(t)) })
	}
}
