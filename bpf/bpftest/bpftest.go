// Package bpftest is for tests only: the same programs as package bpf with
// another layout of some maps, standing in for a later release. The values of
// hd_services, hd_conns and hd_affinity have one more field, next, in the middle.
package bpftest

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// The values whose layout differs from the one in package bpf.
type (
	ServiceVal  = nextServiceVal
	ConnVal     = nextConnVal
	AffinityVal = nextAffinityVal
)

// NextSpec returns a fresh copy of the programs and maps of the later release.
func NextSpec() (*ebpf.CollectionSpec, error) {
	spec, err := loadNext()
	if err != nil {
		return nil, fmt.Errorf("read the embedded next BPF object: %w", err)
	}
	return spec, nil
}
