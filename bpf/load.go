package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// Spec returns a fresh copy of the programs and maps, for the caller to change
// (sizes, pinning, constants) and load.
func Spec() (*ebpf.CollectionSpec, error) {
	spec, err := loadHeddle()
	if err != nil {
		return nil, fmt.Errorf("read the embedded BPF object: %w", err)
	}
	return spec, nil
}

// Config is what programs must know about the kernel they are loaded into. The
// values are constants to the verifier, so code for newer kernels is left out.
type Config struct {
	// SetRetval: cgroup programs may choose the error of a call they deny
	// (bpf_set_retval, Linux 5.18). Without it a refused connect is sent to port
	// 0 of the loopback, which answers with ECONNREFUSED as well, and a refused
	// sendmsg fails with EPERM.
	SetRetval bool
}

// Apply sets the constants in spec.
func (c Config) Apply(spec *ebpf.CollectionSpec) error {
	v, ok := spec.Variables[heddleVarCfgSetRetval]
	if !ok {
		return fmt.Errorf("the BPF object has no constant %s; rebuild it (make generate)", heddleVarCfgSetRetval)
	}
	var set uint8
	if c.SetRetval {
		set = 1
	}
	if err := v.Set(set); err != nil {
		return fmt.Errorf("set constant %s: %w", heddleVarCfgSetRetval, err)
	}
	return nil
}
