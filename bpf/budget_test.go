package bpf_test

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// budgets is how many instructions the verifier may look at per program. The
// kernel gives up at a million; older verifiers need more for the same program,
// so stay far below. A program that outgrows its budget became harder to verify
// than its author may think.
var budgets = map[string]uint32{
	bpf.ProgConnect4:   30_000,
	bpf.ProgConnect6:   30_000,
	bpf.ProgSendmsg4:   50_000,
	bpf.ProgSendmsg6:   50_000,
	bpf.ProgRecvmsg4:   50_000,
	bpf.ProgRecvmsg6:   50_000,
	bpf.ProgGetpeer4:   200,
	bpf.ProgGetpeer6:   200,
	bpf.ProgGetsockopt: 600,
	bpf.ProgSockops:    3_000,
	bpf.ProgRelease:    1_500,
	bpf.ProgTCIn:       12_000,
	bpf.ProgTCOut:      8_000,
	bpf.ProgFastEnd:    600,
	bpf.ProgWhy:        10_000,
	bpf.ProgMsg:        400,
	bpf.ProgRecv:       100,
	bpf.ProgSetsockopt: 200,
}

// objectBudget bounds the committed object, in bytes.
const objectBudget = 240 << 10

// TestLoad loads every program as for an old and for a new kernel, and holds
// the verifier's work against the budgets.
func TestLoad(t *testing.T) {
	nettest.RequireBPF(t)
	configs := []bpf.Config{{}, {SetRetval: true}, {SetRetval: true, FastPath: true}}
	if tracesReads(t) {
		configs = append(configs, bpf.Config{SetRetval: true, FastPath: true, Bypass: true})
	}
	for _, config := range configs {
		spec := kernelSpec(t)
		if err := config.Apply(spec); err != nil {
			t.Fatal(err)
		}
		coll, err := ebpf.NewCollection(spec)
		if err != nil {
			t.Fatalf("load with %+v: %+v", config, err)
		}
		defer coll.Close()
		for name, program := range coll.Programs {
			info, err := program.Info()
			if err != nil {
				t.Fatal(err)
			}
			// Not reported before Linux 5.16.
			if verified, ok := info.VerifiedInstructions(); ok && verified > budgets[name] {
				t.Errorf("%s: the verifier looked at %d instructions, the budget is %d", name, verified, budgets[name])
			}
		}
	}
}

// tracesReads reports whether the kernel has what the socket bypass counts
// reads with (Linux 6.3).
func tracesReads(t *testing.T) bool {
	t.Helper()
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var hook *btf.Typedef
	return kernel.TypeByName("btf_trace_sock_recv_length", &hook) == nil
}

func TestObjectSize(t *testing.T) {
	info, err := os.Stat("heddle_bpfel.o")
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > objectBudget {
		t.Errorf("the object has %d bytes, the budget is %d", info.Size(), objectBudget)
	}
}
