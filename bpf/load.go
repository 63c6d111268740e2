package bpf

import (
	"crypto/sha256"
	"encoding/hex"
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

// Digest identifies the compiled programs.
func Digest() string {
	sum := sha256.Sum256(_HeddleBytes)
	return hex.EncodeToString(sum[:])
}

// Config is what programs must know about the kernel they are loaded into. The
// values are constants to the verifier, so code for newer kernels is left out.
type Config struct {
	// SetRetval: cgroup programs may choose the error of a call they deny
	// (bpf_set_retval, Linux 5.18). Without it a refused connect is sent to port
	// 0 of the loopback, which answers with ECONNREFUSED as well, and a refused
	// sendmsg fails with EPERM.
	SetRetval bool
	// FastPath: packets of connections between pods of the node may skip the
	// stack. It needs kernel functions of conntrack (Linux 6.0).
	FastPath bool
	// FastShare is how many connections of hd_fast one pod may have opened; 0:
	// an eighth of the built-in size.
	FastShare uint32
	// Bypass: the kernel has what the socket bypass needs (Linux 6.3). Without
	// it the programs of the bypass alone are left out, and no socket joins it.
	Bypass bool
}

// Apply sets the constants in spec, and takes programs out of it that this
// kernel does not load. The sizes of the maps must be set already.
func (c Config) Apply(spec *ebpf.CollectionSpec) error {
	constants := map[string]any{
		heddleVarCfgSetRetval: flag(c.SetRetval),
		heddleVarCfgFastPath:  flag(c.FastPath),
		heddleVarCfgBypass:    flag(c.Bypass),
	}
	if c.FastShare != 0 {
		constants[heddleVarCfgFastShare] = c.FastShare
	}
	if c.Bypass {
		constants[heddleVarCfgBypassShare] = BypassShare(spec.Maps[MapSocks].MaxEntries)
	} else {
		for _, name := range bypassPrograms {
			delete(spec.Programs, name)
		}
	}
	for name, value := range constants {
		v, ok := spec.Variables[name]
		if !ok {
			return fmt.Errorf("the BPF object has no constant %s; rebuild it (make generate)", name)
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("set constant %s: %w", name, err)
		}
	}
	return nil
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

// bypassPrograms are there for the socket bypass alone.
var bypassPrograms = []string{ProgMsg, ProgRecv, ProgSetsockopt}

// BypassShare is how many of a node's bypassed sockets one pod may have: a
// quarter, so that it takes several to use up the map.
func BypassShare(socks uint32) uint32 { return max(socks/4, 1) }
