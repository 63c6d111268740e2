package bpf

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

const ethernetHeader = 14 // bytes, ETH_HLEN

// EndFast asks hd_fast_end to take a connection out of hd_fast, which is no
// error when it is not there. Its packets take the stack from then on.
func EndFast(program *ebpf.Program, key FastKey) error {
	// The kernel reads an Ethernet header before the program does.
	packet := append(make([]byte, ethernetHeader), unsafe.Slice((*byte)(unsafe.Pointer(&key)), unsafe.Sizeof(key))...)
	ret, err := program.Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		return fmt.Errorf("run %s: %w", ProgFastEnd, err)
	}
	if ret != nextProgram {
		return fmt.Errorf("%s did not understand its input (returned %d): rebuild the BPF object (make generate)", ProgFastEnd, int32(ret))
	}
	return nil
}
