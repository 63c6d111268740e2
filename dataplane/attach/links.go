package attach

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
)

// loadPrograms loads the programs of this version against the tables' maps.
func (o *opening) loadPrograms() error {
	o.storageFeature()
	replacements := map[string]*ebpf.Map{}
	for _, t := range o.tables {
		replacements[t.name] = t.now
		// A table that kept its size is what the programs must expect.
		o.spec.Maps[t.name].MaxEntries = t.now.MaxEntries()
	}
	if err := o.config.Apply(o.spec); err != nil {
		return fmt.Errorf("configure BPF objects: %w", err)
	}
	for _, p := range o.spec.Programs {
		if p.Type == ebpf.SchedCLS {
			p.AttachType = ebpf.AttachNone // tcx and clsact both take it
		}
	}
	c, err := ebpf.NewCollectionWithOptions(o.spec, ebpf.CollectionOptions{MapReplacements: replacements})
	if err != nil {
		return fmt.Errorf("load BPF programs: %w", err)
	}
	for _, m := range c.Maps {
		m.Close() // clones of the tables' maps, and the constants
	}
	for _, p := range c.Programs {
		o.keep(p)
	}
	o.programs = c.Programs
	o.tc, err = newInterfaces(o.TC, o.pins, c.Programs[bpf.ProgTCIn], c.Programs[bpf.ProgTCOut], o.Log)
	if err != nil {
		return err
	}
	o.features = append(o.features, o.tc.feature())
	return nil
}

// updateHooks puts the programs into force at the cgroup, one by one: in place
// where an older program is attached, so that no hook is ever empty.
//
// While sockets move to another layout, those that the older programs connect
// have their state in the old map until it is copied. So the older programs
// that answer from it stay, and the new ones are attached beside them:
// whichever knows a socket answers for it. retireAnswers ends that.
func (o *opening) updateHooks() error {
	cgroup, err := cgroupID(o.Cgroup)
	if err != nil {
		return err
	}
	for _, name := range o.hooks() {
		if err := o.step("hook " + name); err != nil {
			return err
		}
		pin := name
		if o.movingSockets() && answers(o.spec.Programs[name].AttachType) {
			pin = besidePin(name)
		}
		if err := o.updateHook(name, pin, cgroup); err != nil {
			return err
		}
	}
	return nil
}

// retireAnswers puts the programs that answer in the place of the older ones,
// once the sockets of those have moved. Until the second pin is gone a program
// may run twice for a question, which gives the same answer.
func (o *opening) retireAnswers() error {
	if !o.movingSockets() {
		return nil
	}
	cgroup, err := cgroupID(o.Cgroup)
	if err != nil {
		return err
	}
	for _, name := range o.hooks() {
		if !answers(o.spec.Programs[name].AttachType) {
			continue
		}
		if err := o.step("retire " + name); err != nil {
			return err
		}
		if err := o.updateHook(name, name, cgroup); err != nil {
			return err
		}
		if err := detachPinned(o.pins.path(linksDir, besidePin(name))); err != nil {
			return fmt.Errorf("detach the second %s: %w", name, err)
		}
	}
	return nil
}

// besidePin names the link of a program that is attached beside an older one.
// What a crash leaves of them is used again, or swept.
func besidePin(name string) string { return "beside_" + name }

// movingSockets reports whether what sockets remember gets another layout.
func (o *opening) movingSockets() bool {
	return slices.ContainsFunc(o.tables, func(t *table) bool { return t.kind == storage && len(t.old) > 0 })
}

// hooks lists the programs of the cgroup. Those that translate come last: they
// must not be in force before those that answer for what they did.
func (o *opening) hooks() []string {
	var answer, translate []string
	for _, name := range slices.Sorted(maps.Keys(o.spec.Programs)) {
		switch p := o.spec.Programs[name]; {
		case p.Type == ebpf.SchedCLS, isBypass(name):
		case translates(p.AttachType):
			translate = append(translate, name)
		default:
			answer = append(answer, name)
		}
	}
	return append(answer, translate...)
}

// answers reports whether programs of a hook tell applications what their
// sockets remember. The others keep accounts, which two would keep twice.
func answers(hook ebpf.AttachType) bool {
	switch hook {
	case ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername,
		ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP6Recvmsg, ebpf.AttachCGroupGetsockopt:
		return true
	}
	return false
}

func translates(hook ebpf.AttachType) bool {
	switch hook {
	case ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect,
		ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg:
		return true
	}
	return false
}

// updateHook lets the link with that pin run the program, and makes it if there
// is none.
func (o *opening) updateHook(name, pin string, cgroup uint64) error {
	return o.attachHook(hook{name, o.spec.Programs[name].AttachType, o.programs[name]}, pin, cgroup)
}

// hook is a program with its place at the cgroup.
type hook struct {
	name    string
	at      ebpf.AttachType
	program *ebpf.Program
}

func (o *opening) attachHook(h hook, pin string, cgroup uint64) error {
	pinned, err := openLink(o.pins.path(linksDir, pin))
	if err != nil {
		return err
	}
	if pinned != nil {
		defer pinned.Close()
		if holds(pinned, cgroup) {
			if err := pinned.Update(h.program); err != nil {
				return fmt.Errorf("replace program %s at cgroup %s: %w", h.name, o.Cgroup, err)
			}
			return nil
		}
		o.Log.Warn("attaching a hook again: it was at another cgroup, or its cgroup was removed", "hook", pin)
	}
	l, err := link.AttachCgroup(link.CgroupOptions{
		Path: o.Cgroup, Attach: h.at, Program: h.program,
	})
	if err != nil {
		return fmt.Errorf("attach %s to cgroup %s: %w", h.name, o.Cgroup, err)
	}
	defer l.Close()
	return o.pins.pinLink(l, pin)
}

// holds reports whether a link is still attached to the cgroup: the kernel
// detaches it when the cgroup is removed.
func holds(l link.Link, cgroup uint64) bool {
	info, err := l.Info()
	return err == nil && info.Cgroup() != nil && info.Cgroup().CgroupId == cgroup
}

// cgroupID returns the kernel's id of a cgroup, the inode of its directory.
func cgroupID(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("cgroup directory %s: %w", dir, err)
	}
	return st.Ino, nil
}

// detachPinned ends a pinned link and removes the pin.
func detachPinned(path string) error {
	l, err := openLink(path)
	if err != nil || l == nil {
		return err
	}
	defer l.Close()
	// A link whose cgroup or interface is gone is detached already.
	detached := l.Detach()
	if errors.Is(detached, link.ErrNotSupported) || errors.Is(detached, unix.ENOLINK) {
		detached = nil
	}
	return errors.Join(detached, remove(path))
}
