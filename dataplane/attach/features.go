package attach

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

// Feature is something that works better, or at all, on some kernels only.
type Feature struct {
	Name   string // stable, lower_snake
	On     bool
	Reason string // what it means that it is on or off
}

// Features lists what the running kernel gives and what it does not.
func (k *Kernel) Features() []Feature { return k.features }

func setRetvalFeature() Feature {
	err := features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval)
	if err == nil {
		return Feature{"set_retval", true, "a refused connect or datagram fails with ECONNREFUSED"}
	}
	reason := "needs Linux 5.18: a refused connect goes to port 0 of the loopback, which refuses it; a refused datagram fails with EPERM"
	if !errors.Is(err, ebpf.ErrNotSupported) {
		reason += " (" + err.Error() + ")"
	}
	return Feature{"set_retval", false, reason}
}
