package attach

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
)

// table is one map on its way from what is pinned to what this version uses.
type table struct {
	name   string
	layout layout
	kind   kind
	now    *ebpf.Map
	staged bool      // now is pinned in staged, then in switch, not in maps yet
	old    []*source // maps whose contents belong into now
}

// source is a map that a table takes the place of.
type source struct {
	m          *ebpf.Map
	layout     layout
	key, value conversion        // to the table's layout
	copied     map[string]string // entries of the table as this source gave them
}

// kind is how the contents of a map get from one layout to another.
type kind int

const (
	config   kind = iota // only the agent writes it: copied once
	entries              // programs write it: copied, and brought up to date after the switch
	counters             // programs add to it: moved after the switch
	storage              // lives in sockets: walked by a program
)

func kindOf(typ ebpf.MapType, flags uint32, l layout) kind {
	switch {
	case typ == ebpf.SkStorage:
		return storage
	case flags&unix.BPF_F_RDONLY_PROG != 0:
		return config
	case l.counts():
		return counters
	default:
		return entries
	}
}

// prepareMaps finds or makes the map of every name.
func (o *opening) prepareMaps() error {
	for _, name := range slices.Sorted(maps.Keys(o.spec.Maps)) {
		if strings.HasPrefix(name, ".") {
			continue // constants, which belong to one load of the programs
		}
		t, err := o.prepareMap(name)
		if err != nil {
			return err
		}
		o.tables = append(o.tables, t)
		for _, s := range o.folded[name] {
			t.replaces(s)
		}
	}
	return nil
}

// prepareMap takes the pinned map into use when it is what this version wants,
// and stages a new one when it is not.
func (o *opening) prepareMap(name string) (*table, error) {
	spec := o.spec.Maps[name]
	want, err := layoutOf(spec.Key, spec.Value, spec.KeySize, spec.ValueSize)
	if err != nil {
		return nil, fmt.Errorf("map %s of this version: %w", name, err)
	}
	t := &table{name: name, layout: want, kind: kindOf(spec.Type, spec.Flags, want)}
	found, err := o.findMap(name)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return t, o.create(t, spec, mapsDir)
	}
	if spec.Type == ebpf.SockHash {
		return t, o.adoptSocks(t, spec, found)
	}
	have, err := layoutOfMap(found)
	if err != nil {
		return nil, fmt.Errorf("pinned map %s: %w: it was not made by Heddle, remove %s", name, err, o.pins.path(mapsDir, name))
	}
	if err := o.fitEntries(name, spec, found); err != nil {
		return nil, err
	}
	if incompatible := spec.Compatible(found); incompatible == nil && have.equal(want) {
		t.now = found
		return t, nil
	} else if incompatible != nil {
		o.Log.Info("migrating map", "map", name, "because", incompatible.Error())
	} else {
		o.Log.Info("migrating map", "map", name, "because", "its fields changed")
	}
	t.staged = true
	t.replaces(&source{m: found, layout: have})
	return t, o.create(t, spec, stagedDir)
}

// adoptSocks takes a map of sockets into use as it is. It has no type
// information, and its sockets cannot move: to take one out loses what was sent
// to it. So its key never changes, and its size not before it is made anew.
func (o *opening) adoptSocks(t *table, spec *ebpf.MapSpec, found *ebpf.Map) error {
	if found.Type() != spec.Type || found.KeySize() != spec.KeySize || found.ValueSize() != spec.ValueSize {
		return fmt.Errorf("pinned map %s is of another kind: it was not made by Heddle, remove %s", t.name, o.pins.path(mapsDir, t.name))
	}
	t.now = found
	return nil
}

// replaces adds a map whose contents belong into t. What were no counts cannot
// be added to counts, and is left.
func (t *table) replaces(s *source) {
	if t.kind == counters && !s.layout.counts() {
		return
	}
	s.key = newConversion(s.layout.key, t.layout.key, t.layout.keySize)
	s.value = newConversion(s.layout.value, t.layout.value, t.layout.valueSize)
	s.copied = map[string]string{}
	t.old = append(t.old, s)
}

// create makes t's map and pins it.
func (o *opening) create(t *table, spec *ebpf.MapSpec, dir string) error {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("create map %s with %d entries of %d bytes: %w: lower its limit, or give the agent more memory",
			t.name, spec.MaxEntries, spec.KeySize+spec.ValueSize, err)
	}
	o.keep(m)
	t.now = m
	return o.pinMap(m, dir, t.name)
}

func (o *opening) pinMap(m *ebpf.Map, dir, name string) error {
	if err := o.pins.make(dir); err != nil {
		return err
	}
	if err := m.Pin(o.pins.path(dir, name)); err != nil {
		return fmt.Errorf("pin map %s: %w", name, err)
	}
	return nil
}

// fitEntries keeps a map from being made smaller than its contents.
func (o *opening) fitEntries(name string, spec *ebpf.MapSpec, found *ebpf.Map) error {
	evicts := found.Type() != ebpf.Hash && found.Type() != ebpf.PerCPUHash
	if spec.MaxEntries >= found.MaxEntries() || evicts {
		return nil
	}
	var used uint32
	if err := each(found, func(_, _ []byte) error { used++; return nil }); err != nil {
		return fmt.Errorf("count entries of map %s: %w", name, err)
	}
	if used > spec.MaxEntries {
		o.Log.Warn("keeping the size of a map that holds more than its new limit",
			"map", name, "entries", used, "limit", spec.MaxEntries, "size", found.MaxEntries())
		spec.MaxEntries = found.MaxEntries()
	}
	return nil
}

// each calls fn for every entry of a map. While others write to it, an entry
// may come twice, and one that is added meanwhile may be missed.
func each(m *ebpf.Map, fn func(key, value []byte) error) error {
	var at any
	// A key that is deleted under the walk sends it back to the start.
	for range 4*int(m.MaxEntries()) + 64 {
		key, err := m.NextKeyBytes(at)
		if err != nil || key == nil {
			return err
		}
		at = key
		value, err := m.LookupBytes(key)
		if err != nil {
			return err
		}
		if value == nil {
			continue
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return ebpf.ErrIterationAborted
}

// findMap opens the pinned map, or nil when there is none. A map whose pin was
// lost is found through the programs that still use it, and pinned again.
func (o *opening) findMap(name string) (*ebpf.Map, error) {
	m, err := openMap(o.pins.path(mapsDir, name))
	if err != nil {
		return nil, err
	}
	if m != nil {
		o.keep(m)
		return m, nil
	}
	running, err := o.runningMaps()
	if err != nil {
		return nil, err
	}
	m = running[name]
	if m == nil {
		return nil, nil
	}
	o.Log.Warn("restoring the pin of a map that is in use", "map", name)
	return m, o.pinMap(m, mapsDir, name)
}

// runningMaps returns the maps of the programs that are attached now, by name.
func (o *opening) runningMaps() (map[string]*ebpf.Map, error) {
	if o.running != nil {
		return o.running, nil
	}
	names, err := o.pins.names(linksDir)
	if err != nil {
		return nil, err
	}
	o.running = map[string]*ebpf.Map{}
	programs := map[ebpf.ProgramID]bool{}
	for _, name := range names {
		l, err := openLink(o.pins.path(linksDir, name))
		if err != nil {
			return nil, err
		}
		info, err := l.Info()
		l.Close()
		if err != nil {
			return nil, fmt.Errorf("find the program attached by %s: %w", name, err)
		}
		programs[info.Program] = true
	}
	// The maps of the floor alone have no other trace when it is attached by
	// filters.
	if err := filterPrograms(programs); err != nil {
		return nil, err
	}
	for id := range programs {
		if err := o.addMapsOf(id); err != nil {
			return nil, fmt.Errorf("find the maps of the attached program %d: %w", id, err)
		}
	}
	return o.running, nil
}

func (o *opening) addMapsOf(id ebpf.ProgramID) error {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer p.Close()
	details, err := p.Info()
	if err != nil {
		return err
	}
	ids, _ := details.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return err
		}
		o.keep(m)
		about, err := m.Info()
		if err != nil {
			return err
		}
		o.running[about.Name] = m
	}
	return nil
}

// layoutOfMap reads a map's layout from the kernel.
func layoutOfMap(m *ebpf.Map) (layout, error) {
	keyID, valueID, err := typeIDs(m)
	if err != nil {
		return layout{}, err
	}
	handle, err := m.Handle()
	if err != nil {
		return layout{}, fmt.Errorf("read its type information: %w", err)
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		return layout{}, fmt.Errorf("read its type information: %w", err)
	}
	key, err := types.TypeByID(keyID)
	if err != nil {
		return layout{}, err
	}
	value, err := types.TypeByID(valueID)
	if err != nil {
		return layout{}, err
	}
	return layoutOf(key, value, m.KeySize(), m.ValueSize())
}

// typeIDs asks the kernel which types of a map's type information are its key
// and its value; the library does not say.
func typeIDs(m *ebpf.Map) (key, value btf.TypeID, err error) {
	const getInfoByFD = 15 // BPF_OBJ_GET_INFO_BY_FD
	var info struct {      // struct bpf_map_info
		_               [64]byte
		btf, key, value uint32
	}
	attr := struct {
		fd, size uint32
		info     unsafe.Pointer
	}{uint32(m.FD()), uint32(unsafe.Sizeof(info)), unsafe.Pointer(&info)}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, getInfoByFD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
		return 0, 0, fmt.Errorf("read map info: %w", errno)
	}
	if info.btf == 0 {
		return 0, 0, errors.New("it carries no type information")
	}
	return btf.TypeID(info.key), btf.TypeID(info.value), nil
}

// writeOwnCgroups makes hd_own hold exactly the cgroups of the options.
func (o *opening) writeOwnCgroups() error {
	i := slices.IndexFunc(o.tables, func(t *table) bool { return t.name == bpf.MapOwn })
	own := o.tables[i].now
	for _, id := range o.OwnCgroups {
		if err := own.Put(id, uint8(1)); err != nil {
			return fmt.Errorf("write own cgroup %d to %s: %w", id, bpf.MapOwn, err)
		}
	}
	var gone []uint64
	var id uint64
	var val uint8
	for it := own.Iterate(); it.Next(&id, &val); {
		if !slices.Contains(o.OwnCgroups, id) {
			gone = append(gone, id)
		}
	}
	for _, id := range gone {
		if err := own.Delete(id); err != nil {
			return fmt.Errorf("remove cgroup %d from %s: %w", id, bpf.MapOwn, err)
		}
	}
	return nil
}
