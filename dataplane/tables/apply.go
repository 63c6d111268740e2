package tables

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
)

// Apply carries out operations in their order. Each of them is atomic to the
// programs. It stops at the first one that fails and says how many were done:
// the maps are then between two plans, in a state that Diff allows clients to
// meet. The caller reads them back and applies a new difference.
//
// The error names the map, the key and what the operator can do.
func (t *Tables) Apply(ops []plan.Op) (done int, err error) {
	t.writing.Lock()
	defer t.writing.Unlock()

	for i, op := range ops {
		if op.Wait {
			if err := settle(); err != nil {
				return i, err
			}
		}
		if err := t.apply(op); err != nil {
			return i, err
		}
	}
	return len(ops), nil
}

func (t *Tables) apply(op plan.Op) error {
	m, err := t.table(op.Map)
	if err != nil {
		return err
	}
	if op.Delete {
		err = m.Delete(pointer(op.Key))
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil // gone is gone
		}
	} else {
		err = m.Put(pointer(op.Key), value(m, op.Value))
	}
	if err != nil {
		verb := "set"
		if op.Delete {
			verb = "delete"
		}
		return fmt.Errorf("%s %s in map %s: %w%s", verb, plan.KeyText(op.Map, op.Key, nil), op.Map, err, advice(op.Map, m, err))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ifindex, ok := op.Key.(uint32); ok && op.Map == bpf.MapIfStats {
		delete(t.ifaces, ifindex) // it counts anew
	}
	switch {
	case op.Delete:
		t.entries[op.Map]--
	case op.Insert:
		t.entries[op.Map]++
	}
	return nil
}

// pointer makes v addressable: the library then takes its bytes as they are
// instead of encoding it field by field.
func pointer(v any) any {
	p := reflect.New(reflect.TypeOf(v))
	p.Elem().Set(reflect.ValueOf(v))
	return p.Interface()
}

// value is what an element is set to. A counter, which the plan writes only to
// create it, has one value for each CPU.
func value(m *ebpf.Map, v any) any {
	stat, ok := v.(bpf.IfaceStat)
	if !ok || m.Type() != ebpf.PerCPUHash {
		return pointer(v)
	}
	all := make([]bpf.IfaceStat, ebpf.MustPossibleCPU())
	for i := range all {
		all[i] = stat
	}
	return all
}

// advice says what an operator can do about an error of the kernel.
func advice(name string, m *ebpf.Map, err error) string {
	switch {
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENOSPC):
		return fmt.Sprintf("; its %d entries are taken, raise %s", m.MaxEntries(), plan.Flag(name))
	case errors.Is(err, unix.ENOMEM):
		return "; the kernel has no memory for it, raise the memory limit of the agent's cgroup or lower " + plan.Flag(name)
	case errors.Is(err, unix.EPERM):
		return "; the agent needs CAP_BPF and CAP_NET_ADMIN, and a map that is not frozen"
	}
	return ""
}
