package bpf_test

import (
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/cilium/ebpf/btf"

	"heddle.io/heddle/bpf"
)

// layouts pairs every struct of src/types.h with its Go type.
var layouts = map[string]any{
	"addr":          bpf.Addr{},
	"pod_val":       bpf.PodVal{},
	"service_key":   bpf.ServiceKey{},
	"service_val":   bpf.ServiceVal{},
	"column":        bpf.Column{},
	"split_val":     bpf.SplitVal{},
	"cluster_val":   bpf.ClusterVal{},
	"load_val":      bpf.LoadVal{},
	"outlier_key":   bpf.OutlierKey{},
	"outlier_val":   bpf.OutlierVal{},
	"endpoint_key":  bpf.EndpointKey{},
	"endpoint_val":  bpf.EndpointVal{},
	"member_key":    bpf.MemberKey{},
	"member_val":    bpf.MemberVal{},
	"affinity_key":  bpf.AffinityKey{},
	"affinity_val":  bpf.AffinityVal{},
	"conn_val":      bpf.ConnVal{},
	"peer":          bpf.Peer{},
	"peers_val":     bpf.PeersVal{},
	"flow_key":      bpf.FlowKey{},
	"flow_val":      bpf.FlowVal{},
	"stat_key":      bpf.StatKey{},
	"stat_val":      bpf.StatVal{},
	"refusal_key":   bpf.RefusalKey{},
	"fast_key":      bpf.FastKey{},
	"fast_end":      bpf.FastEnd{},
	"fast_val":      bpf.FastVal{},
	"ended_val":     bpf.EndedVal{},
	"handshake_val": bpf.HandshakeVal{},
	"iface_val":     bpf.IfaceVal{},
	"iface_stat":    bpf.IfaceStat{},
	"connect_in":    bpf.ConnectIn{},
	"connect_out":   bpf.ConnectOut{},
	"sock_key":      bpf.SockKey{},
	"bypass_val":    bpf.BypassVal{},
	"credit_val":    bpf.CreditVal{},
}

// TestLayout: C, Go in memory and Go on the wire agree on every byte, and no
// struct has a hole: a hole's bytes are undefined, and part of a map key.
func TestLayout(t *testing.T) {
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range layouts {
		var s *btf.Struct
		if err := spec.Types.TypeByName(name, &s); err != nil {
			t.Errorf("struct %s: %v", name, err)
			continue
		}
		goType := reflect.TypeOf(value)
		if goType.Size() != uintptr(s.Size) || binary.Size(value) != int(s.Size) {
			t.Errorf("struct %s has %d bytes in C, %d in Go, %d encoded",
				name, s.Size, goType.Size(), binary.Size(value))
		}
		var end uint32
		for _, m := range s.Members {
			if m.Offset.Bytes() != end {
				t.Errorf("struct %s has a hole before %s, at byte %d", name, m.Name, end)
			}
			size, err := btf.Sizeof(m.Type)
			if err != nil {
				t.Fatal(err)
			}
			end = m.Offset.Bytes() + uint32(size)
		}
		if end != s.Size {
			t.Errorf("struct %s has a hole at its end, at byte %d", name, end)
		}
	}
}

// TestMapLayouts: no map's key or value is missing from the layouts above.
func TestMapLayouts(t *testing.T) {
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range spec.Maps {
		for part, typ := range map[string]btf.Type{"key": m.Key, "value": m.Value} {
			if s, ok := typ.(*btf.Struct); ok {
				if _, ok := layouts[s.Name]; !ok {
					t.Errorf("the %s of %s is struct %s, which has no Go name in types.go", part, name, s.Name)
				}
			}
		}
	}
}
