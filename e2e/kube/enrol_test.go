package kube

import (
	"context"
	"fmt"
	"time"
)

// enrolUnderTraffic takes the namespace into the mesh and out of it while its
// pods make connections and hold others.
func (m *mesh) enrolUnderTraffic() {
	m.shop(50, 50)
	web := port(m.addresses("web")[0], 80)
	for node := range m.Nodes() {
		m.platform(node+1, web, "v1") // where connections go outside of the mesh
	}
	ctx := context.WithoutCancel(m.t.Context())
	s := m.storm(web, 500, 50)
	for i := range 20 {
		label, want := "heddle.io/mesh=disabled", 0
		if i%2 == 1 {
			label, want = "heddle.io/mesh=enabled", 1
		}
		m.kubectl("label", "namespace", "shop", "--overwrite", label)
		m.eventually(fmt.Sprintf("round %d: both clients stand as the label says", i), func() error {
			for _, pod := range []string{"short", "long"} {
				if got, err := m.enrolled(pod); err != nil || got != want {
					return fmt.Errorf("pod %s: enrolled %d, want %d: %v", pod, got, want, err)
				}
			}
			return nil
		})
		pause(ctx, time.Second)
	}
	s.end()
}
