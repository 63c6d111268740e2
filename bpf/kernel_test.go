package bpf_test

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// kernelSpec returns the programs and maps, the maps small enough for a test.
func kernelSpec(t testing.TB) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	if err := (bpf.Config{SetRetval: true}).Apply(spec); err != nil {
		t.Fatal(err)
	}
	for _, m := range spec.Maps {
		if m.MaxEntries > 4096 {
			m.MaxEntries = 4096
		}
	}
	return spec
}

// load puts one program and its maps into the kernel. Nothing is attached.
func load(t testing.TB, program string) (*ebpf.Program, map[string]*ebpf.Map) {
	t.Helper()
	return loadSized(t, program, nil)
}

// loadSized is load with other sizes for some maps.
func loadSized(t testing.TB, program string, sizes map[string]uint32) (*ebpf.Program, map[string]*ebpf.Map) {
	t.Helper()
	nettest.RequireBPF(t)
	spec := kernelSpec(t)
	for name, size := range sizes {
		spec.Maps[name].MaxEntries = size
	}
	for name := range spec.Programs {
		if name != program {
			delete(spec.Programs, name)
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("load %s: %+v", program, err)
	}
	t.Cleanup(coll.Close)
	return coll.Programs[program], coll.Maps
}

func put(t testing.TB, m *ebpf.Map, key, value any) {
	t.Helper()
	if err := m.Put(key, value); err != nil {
		t.Fatalf("%v: put %+v: %v", m, key, err)
	}
}

// enrolledClient enrols a pod, and returns a question from it and the service
// address that the question is about.
func enrolledClient(t testing.TB, maps map[string]*ebpf.Map) (bpf.ConnectIn, bpf.ServiceKey) {
	t.Helper()
	put(t, maps[bpf.MapPods], uint64(1), bpf.PodVal{Scope: 1})
	vip := bpf.ServiceKey{
		Addr:   bpf.AddrFrom(netip.MustParseAddr("10.96.0.1")),
		PortBe: bpf.PortBE(80),
		Proto:  tcp,
	}
	return bpf.ConnectIn{Netns: 1, Addr: vip.Addr, PortBe: vip.PortBe, Proto: vip.Proto}, vip
}
