package bpf

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// question is the packet that hd_why reads and answers.
type question struct {
	in  ConnectIn
	out ConnectOut
}

// Decide asks hd_why what would happen to a connection, over the maps that the
// program is loaded with. It changes nothing: no affinity, no counter. The caller
// provides the random bits and the time (CLOCK_MONOTONIC), so that the same
// question always has the same answer. Safe for concurrent use.
func Decide(why *ebpf.Program, in ConnectIn) (ConnectOut, error) {
	q := question{in: in}
	packet := unsafe.Slice((*byte)(unsafe.Pointer(&q)), unsafe.Sizeof(q))
	ret, err := why.Run(&ebpf.RunOptions{Data: packet, DataOut: packet})
	if err != nil {
		return ConnectOut{}, fmt.Errorf("run %s: %w", ProgWhy, err)
	}
	if ret != nextProgram {
		return ConnectOut{}, fmt.Errorf("%s did not understand the question (returned %d): the pinned programs are of another release, restart the agent", ProgWhy, int32(ret))
	}
	return q.out, nil
}

// nextProgram is TC_NEXT (-1), what a TC program returns to let a packet go on.
const nextProgram = ^uint32(0)
