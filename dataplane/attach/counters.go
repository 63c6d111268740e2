package attach

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Counters are moved, not copied: programs of this version already add to the
// new map when the old ones have stopped adding to the old map, and only a
// program can add to a counter without losing what others add at that moment.

// addRows gives every line of s a line in t, with zeros: programs count the end
// of a connection only on the line that counted its beginning.
func (t *table) addRows(s *source) error {
	zero := make([]byte, t.layout.valueSize)
	err := each(s.m, func(key, _ []byte) error {
		newKey, ok := s.key.apply(key)
		if !ok {
			return nil
		}
		return t.addCounter(newKey, zero)
	})
	if errors.Is(err, ebpf.ErrIterationAborted) {
		return nil // what is missing comes with its counts
	}
	return err
}

// addCounter writes a line unless there is one. In a per-CPU map the counts go
// to the first CPU. A line beyond the end of an array is lost.
func (t *table) addCounter(key, counts []byte) error {
	var value any = counts
	if perCPU(t.now) {
		value = [][]byte{counts}
	}
	err := t.add(key, value)
	if isArray(t.now) && err != nil {
		return nil
	}
	return err
}

func perCPU(m *ebpf.Map) bool {
	switch m.Type() {
	case ebpf.PerCPUHash, ebpf.PerCPUArray, ebpf.LRUCPUHash:
		return true
	}
	return false
}

func isArray(m *ebpf.Map) bool {
	return m.Type() == ebpf.Array || m.Type() == ebpf.PerCPUArray
}

// moveCounts adds what the replaced maps counted, and takes it away there, so
// that an interrupted move goes on where it was.
func (t *table) moveCounts() error {
	if len(t.old) == 0 {
		return nil
	}
	adder, err := newAdder(t)
	if err != nil {
		return err
	}
	defer adder.Close()
	for _, s := range t.old {
		type line struct{ key, value []byte }
		var lines []line
		err := each(s.m, func(key, value []byte) error {
			lines = append(lines, line{key, sum(value, s.m)})
			return nil
		})
		if err != nil {
			return err
		}
		for _, l := range lines {
			key, counts, ok := s.convert(l.key, l.value)
			if !ok {
				continue
			}
			if err := t.count(adder, key, counts); err != nil {
				return err
			}
			if err := s.clear(l.key); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum adds up the counts of all CPUs.
func sum(value []byte, m *ebpf.Map) []byte {
	if !perCPU(m) {
		return value
	}
	total := make([]byte, m.ValueSize())
	for i := range len(value) / 8 {
		at := i * 8 % len(total)
		n := binary.LittleEndian.Uint64(total[at:]) + binary.LittleEndian.Uint64(value[i*8:])
		binary.LittleEndian.PutUint64(total[at:], n)
	}
	return total
}

func (s *source) clear(key []byte) error {
	if !isArray(s.m) {
		err := s.m.Delete(key)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		return err
	}
	zero := make([]byte, s.layout.valueSize)
	if perCPU(s.m) {
		return s.m.Put(key, [][]byte{zero})
	}
	return s.m.Put(key, zero)
}

// count adds to a line, which is created when it is missing.
func (t *table) count(adder *ebpf.Program, key, counts []byte) error {
	packet := make([]byte, packetHeader, packetHeader+len(key)+len(counts))
	packet = append(append(packet, key...), counts...)
	missing, err := adder.Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		return err
	}
	if missing != 0 {
		return t.addCounter(key, counts)
	}
	return nil
}

// packetHeader is the length of an Ethernet header, the least that a test run
// takes. What the adder is told comes behind it.
const packetHeader = 14

// newAdder loads a program that reads a key and counts from a packet and adds
// the counts to that line of t's map. It returns 1 when there is no such line.
func newAdder(t *table) (*ebpf.Program, error) {
	keySize, valueSize := int32(t.layout.keySize), int32(t.layout.valueSize)
	size := keySize + valueSize
	// On the stack: key, then counts, which end at an aligned address.
	base, countsAt := -size, -valueSize
	program := asm.Instructions{
		asm.Mov.Imm(asm.R2, packetHeader),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, base),
		asm.Mov.Imm(asm.R4, size),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "missing"),
		asm.LoadMapPtr(asm.R1, t.now.FD()),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, base),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "missing"),
	}
	for at := int32(0); at < valueSize; at += 8 {
		program = append(program,
			asm.LoadMem(asm.R1, asm.R10, int16(countsAt+at), asm.DWord),
			asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, int16(at)))
	}
	program = append(program,
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("missing"),
		asm.Return())
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "hd_add", Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: program,
	})
	if err != nil {
		return nil, fmt.Errorf("load the program that adds counts: %w", err)
	}
	return p, nil
}
