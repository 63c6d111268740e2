package attach

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
)

// Options say where and how large.
type Options struct {
	// Cgroup is a directory of a cgroup2 file system. The hooks see the sockets
	// of all processes at and below it.
	Cgroup string
	// Pins is the directory on a bpffs that holds the state. It is created, and
	// a bpffs is mounted at /sys/fs/bpf when it lies below and there is none.
	Pins string
	// Limits overrides the number of entries of maps, by map name. A limit
	// below what a map holds is not applied until it fits.
	Limits map[string]uint32
	// TC is how interfaces are attached to: "auto" (or empty), "tcx", "clsact".
	TC string
	// OwnCgroups are the ids of the cgroups of Heddle's own processes, whose
	// sockets are never translated, in whatever namespace they are.
	OwnCgroups []uint64
	// FastPath says whether packets between pods of the node may skip the stack:
	// FastPathAuto (or empty) or FastPathOff.
	FastPath string
	// SelfTest tries the fast path where nobody else is, and says what
	// applications would notice of it. That keeps it off, and so does an error.
	// Nil: it is not tried.
	SelfTest func(*Trial) (noticed string, err error)
	// Log receives what adoption and migration did; nil discards it.
	Log *slog.Logger
}

// Kernel is Heddle in the kernel: maps, hooks and interfaces, held exclusively
// by this process until Close. Its methods are safe for concurrent use.
type Kernel struct {
	lock     *os.File
	maps     map[string]*ebpf.Map
	why      *ebpf.Program
	flows    flows
	seen     map[bpf.FastKey]sight // of SweepFastPath's caller, as swept is
	swept    bool                  // it ran to its end once
	features []Feature
	tc       *interfaces
	bypass   *bypass
}

// Open brings the kernel to this version's programs and maps: from nothing, or
// from whatever state an earlier agent left, also one that was killed in the
// middle of Open. Connections, and services that are programmed, work on
// throughout. An error names what is missing and what to do; the kernel is then
// as it was, or in a state that the next Open finishes.
//
// The interfaces that Open adopts, and those given to AttachIface, are those of
// the calling thread's network namespace.
func Open(o Options) (*Kernel, error) {
	return open(o, system{
		machine: thisMachine,
		objects: bpf.Spec,
		retval:  setRetvalFeature,
		walk:    storageWalkFeature,
		bypass:  bypassFeature,
		step:    func(string) error { return nil },
	})
}

// system is what Open takes from outside; tests replace parts of it.
type system struct {
	machine
	objects func() (*ebpf.CollectionSpec, error)
	retval  func() Feature
	walk    func(*ebpf.CollectionSpec) Feature
	bypass  func(*ebpf.CollectionSpec) Feature
	step    func(name string) error // before each step; an error is a crash there
}

func open(o Options, s system) (*Kernel, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := s.probe(o.Cgroup, o.Pins); err != nil {
		return nil, err
	}
	lock, err := lockPins(o.Pins)
	if err != nil {
		return nil, err
	}
	op := &opening{Options: o, system: s, pins: pins(o.Pins), folded: map[string][]*source{}}
	defer op.close()
	if err := op.run(); err != nil {
		lock.Close()
		return nil, err
	}
	return op.finish(lock), nil
}

// opening is one run of Open.
type opening struct {
	Options
	system
	pins pins

	spec     *ebpf.CollectionSpec
	features []Feature
	folded   map[string][]*source // maps of an interrupted upgrade, by name
	running  map[string]*ebpf.Map // of the attached programs, once asked for
	tables   []*table
	programs map[string]*ebpf.Program
	tc       *interfaces
	config   bpf.Config
	bypass   *bypass

	closers []io.Closer
}

// run takes the steps in order. Up to "switch" nothing that carries traffic
// has changed; from there on, every step can be repeated by the next Open.
func (o *opening) run() error {
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"objects", o.readObjects},
		{"recover", o.recover},
		{"maps", o.prepareMaps},
		{"programs", o.loadPrograms},
		{"copy", o.copyBefore}, // last: what is written from now on is fetched late
		{"own cgroups", o.writeOwnCgroups},
		{"switch", o.pointOfNoReturn},
		{"leave fast path", o.leaveFastPath},
		{"bypass", o.updateBypass}, // before a socket can join it
		{"hooks", o.updateHooks},
		{"interfaces", o.updateInterfaces},
		{"copy again", o.copyAfter},
		{"retire", o.retireAnswers},
		{"sweep fast path", o.sweepFastPath},
		{"publish", o.publish},
		{"sweep", o.sweep},
	} {
		if err := o.step(step.name); err != nil {
			return err
		}
		if err := step.run(); err != nil {
			return err
		}
	}
	return nil
}

// keep closes c when Open ends.
func (o *opening) keep(c io.Closer) { o.closers = append(o.closers, c) }

func (o *opening) close() {
	for _, c := range slices.Backward(o.closers) {
		c.Close()
	}
}

// finish hands what outlives Open to the Kernel.
func (o *opening) finish(lock *os.File) *Kernel {
	k := &Kernel{lock: lock, maps: map[string]*ebpf.Map{}, features: o.features, tc: o.tc, bypass: o.bypass}
	for _, t := range o.tables {
		k.maps[t.name] = t.now
	}
	k.why, k.flows = o.programs[bpf.ProgWhy], o.flows()
	kept := append([]io.Closer{k.why, k.flows.program, o.tc.in, o.tc.out}, o.bypass.closers()...)
	for _, m := range k.maps {
		kept = append(kept, m)
	}
	o.closers = slices.DeleteFunc(o.closers, func(c io.Closer) bool { return slices.Contains(kept, c) })
	return k
}

// readObjects reads the programs and maps of this version and fits them to the
// running kernel and to the options.
func (o *opening) readObjects() error {
	spec, err := o.objects()
	if err != nil {
		return fmt.Errorf("read BPF objects: %w", err)
	}
	o.spec = spec
	for name, entries := range o.Limits {
		m := spec.Maps[name]
		switch {
		case m == nil:
			return fmt.Errorf("limit for map %s: there is no such map", name)
		case m.Type == ebpf.SkStorage || m.Type == ebpf.PerCPUArray:
			return fmt.Errorf("limit for map %s: its size is not a choice", name)
		case entries == 0:
			return fmt.Errorf("limit for map %s: must be at least 1", name)
		}
		m.MaxEntries = entries
	}
	return o.configure()
}

// configure decides what this kernel has, which the programs' constants say.
func (o *opening) configure() error {
	retval, bypass := o.retval(), o.system.bypass(o.spec)
	fast := o.fastPathFeature()
	o.features = append(o.features, retval, fast, bypass)
	o.config = bpf.Config{
		SetRetval: retval.On,
		FastPath:  fast.On,
		FastShare: max(1, o.spec.Maps[bpf.MapFast].MaxEntries/fastShare),
		Bypass:    bypass.On,
	}
	return nil
}

// Maps returns the maps by name. They are valid until Close.
func (k *Kernel) Maps() map[string]*ebpf.Map { return k.maps }

// Close releases the process's hold. Everything stays pinned and attached.
func (k *Kernel) Close() error {
	closers := append([]io.Closer{k.why, k.flows.program, k.tc.in, k.tc.out}, k.bypass.closers()...)
	for _, m := range k.maps {
		closers = append(closers, m)
	}
	for _, c := range closers {
		c.Close()
	}
	return k.lock.Close()
}
