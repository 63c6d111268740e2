package enroll

import (
	"net/netip"
	"slices"
	"time"

	"heddle.io/heddle/dataplane/state"
)

// Orphan is a pod that the kernel's tables know and the registry does not: the
// agent's state directory was lost, the pins were not. Its name is found by
// its addresses once the control plane has spoken. Without that, a lost file
// would take running pods out of the mesh.
type Orphan struct {
	Cookie    uint64
	Ifindex   uint32
	Addresses []netip.Addr
}

// Adopt remembers the orphans whose interface still exists and does not belong
// to an announced pod.
func (r *Registry) Adopt(orphans []Orphan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range orphans {
		if _, err := r.o.Host.Interface(o.Ifindex); err != nil || o.Cookie == r.own {
			continue
		}
		if !r.ownedLocked(o) {
			r.mu.orphans = append(r.mu.orphans, o)
		}
	}
}

func (r *Registry) ownedLocked(o Orphan) bool {
	for _, p := range r.mu.pods {
		if p.Ifindex == o.Ifindex || p.Cookie == o.Cookie {
			return true
		}
	}
	return false
}

// Resolve gives the orphans their names, by a state that names every pod of
// this node, and forgets those that belong to no pod of it.
func (r *Registry) Resolve(s *state.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.orphans) == 0 {
		return
	}
	for _, o := range r.mu.orphans {
		w, ok := workloadAt(s, o.Addresses)
		name, err := r.o.Host.Interface(o.Ifindex)
		p := Pod{Namespace: w.Namespace, Name: w.Name, Cookie: o.Cookie, Interface: name, Ifindex: o.Ifindex, Announced: time.Now()}
		if _, taken := r.mu.pods[p.Key()]; !ok || taken || err != nil || r.ownedLocked(o) {
			r.o.Log.Info("pod in the kernel's tables is unknown to the control plane; letting go of it", "netns", o.Cookie, "ifindex", o.Ifindex)
			continue
		}
		r.o.Log.Info("pod found again by its address", "pod", p.Key(), "interface", name)
		r.mu.pods[p.Key()] = p
	}
	r.mu.orphans = nil
	if err := r.saveLocked(); err != nil {
		r.o.Log.Warn("list of pods cannot be written", "error", err)
	}
}

func workloadAt(s *state.Snapshot, addresses []netip.Addr) (state.Workload, bool) {
	for _, w := range s.Workloads {
		if w.HostNetwork {
			continue
		}
		if slices.ContainsFunc(w.Addresses, func(a netip.Addr) bool { return slices.Contains(addresses, a) }) {
			return w, true
		}
	}
	return state.Workload{}, false
}
