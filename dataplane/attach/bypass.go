package attach

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"heddle.io/heddle/bpf"
)

// SocketBypass is the name of the feature.
const SocketBypass = "socket_bypass"

// bypassFeature finds out whether the kernel takes the programs of the socket
// bypass, by loading them with small maps. Without them everything else works.
func bypassFeature(spec *ebpf.CollectionSpec) Feature {
	off := func(reason string) Feature {
		return Feature{SocketBypass, false, reason + "; connections of pods that ask for the bypass stay on TCP"}
	}
	if !traces("btf_trace_sock_recv_length") {
		return off("needs Linux 6.3 (the tracepoint sock_recv_length): without it the memory of bypassed connections has no bound")
	}
	try := spec.Copy()
	for _, m := range try.Maps {
		m.MaxEntries = min(m.MaxEntries, 16)
	}
	if err := (bpf.Config{SetRetval: true, Bypass: true}).Apply(try); err != nil {
		return off(err.Error())
	}
	wanted := []string{bpf.ProgMsg, bpf.ProgRecv, bpf.ProgSetsockopt, bpf.ProgSockops}
	maps.DeleteFunc(try.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(wanted, name) })
	c, err := ebpf.NewCollection(try)
	if err != nil {
		return off("the kernel does not take its programs: " + err.Error())
	}
	c.Close()
	return Feature{SocketBypass, true, "pods of this node that both ask for it talk from socket to socket"}
}

// traces reports whether the kernel's type information has this type.
func traces(name string) bool {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return false
	}
	var t *btf.Typedef
	return kernel.TypeByName(name, &t) == nil
}

// bypass is what of the socket bypass outlives Open. Its programs are nil when
// the kernel does not have it.
type bypass struct {
	pins             pins
	cgroup           string
	socks            *ebpf.Map
	recv, setsockopt *ebpf.Program
}

// isBypass lists the programs that are not attached with the hooks: one belongs
// to hd_socks, the others are in force only while there is something to do.
func isBypass(name string) bool {
	return name == bpf.ProgMsg || name == bpf.ProgRecv || name == bpf.ProgSetsockopt
}

// updateBypass puts this version's programs of the bypass into force. Sockets
// that are in hd_socks keep the hd_msg they joined with.
func (o *opening) updateBypass() error {
	b := &bypass{pins: o.pins, cgroup: o.Cgroup}
	o.bypass = b
	for _, t := range o.tables {
		if t.name == bpf.MapSocks {
			b.socks = t.now
		}
	}
	msg := o.programs[bpf.ProgMsg]
	if msg == nil {
		return nil
	}
	b.recv, b.setsockopt = o.programs[bpf.ProgRecv], o.programs[bpf.ProgSetsockopt]
	err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: b.socks.FD(), Program: msg, Attach: ebpf.AttachSkMsgVerdict,
	})
	if err != nil {
		return fmt.Errorf("attach %s to %s: %w", bpf.ProgMsg, bpf.MapSocks, err)
	}
	attached, err := b.attached()
	if err != nil || !attached {
		return err
	}
	return b.attach()
}

// SetBypass says whether a pod of this node may join the socket bypass. It must
// be true before the tables say so, and may be false once they do not any more:
// what guards the bypassed sockets then stays until the last of them is closed,
// so call it again from time to time. On a kernel without the bypass it does
// nothing.
func (k *Kernel) SetBypass(on bool) error {
	b := k.bypass
	if b.recv == nil {
		return nil
	}
	attached, err := b.attached()
	switch {
	case err != nil:
		return err
	case on:
		return b.attach()
	case !attached:
		return nil
	}
	if n, err := b.count(); err != nil || n > 0 {
		return err
	}
	return b.detach()
}

// Bypassed counts the sockets that are in the bypass; two make a connection.
func (k *Kernel) Bypassed() (int, error) { return k.bypass.count() }

// BypassedConnections is how many connections have sent bytes around TCP and are
// open.
func (k *Kernel) BypassedConnections() (int, error) {
	type end struct {
		addr bpf.Addr
		port uint16
	}
	seen := map[[2]end]bool{}
	var key bpf.SockKey
	var credit bpf.CreditVal
	it := k.maps[bpf.MapCredit].Iterate()
	for it.Next(&key, &credit) {
		if credit.Used == 0 {
			continue
		}
		local, remote := end{key.Local, key.LocalPortBe}, end{key.Remote, key.RemotePortBe}
		if seen[[2]end{remote, local}] {
			continue // the other direction of one that is counted
		}
		seen[[2]end{local, remote}] = true
	}
	if err := it.Err(); err != nil {
		return 0, fmt.Errorf("map %s: %w", bpf.MapCredit, err)
	}
	return len(seen), nil
}

// count walks the map. A socket that is closed under the walk sends it back to
// the start, so what was seen is remembered.
func (b *bypass) count() (int, error) {
	seen := map[string]bool{}
	var at any
	for range 4*int(b.socks.MaxEntries()) + 64 {
		key, err := b.socks.NextKeyBytes(at)
		if err != nil {
			return 0, fmt.Errorf("count the sockets of %s: %w", bpf.MapSocks, err)
		}
		if key == nil {
			break
		}
		seen[string(key)] = true
		at = key
	}
	return min(len(seen), int(b.socks.MaxEntries())), nil
}

// attached reports whether either program is in force.
func (b *bypass) attached() (bool, error) {
	names, err := b.pins.names(linksDir)
	return slices.Contains(names, bpf.ProgRecv) || slices.Contains(names, bpf.ProgSetsockopt), err
}

// attach puts both programs into force, TLS's guard first.
func (b *bypass) attach() error {
	o := &opening{Options: Options{Cgroup: b.cgroup}, pins: b.pins}
	cgroup, err := cgroupID(b.cgroup)
	if err != nil {
		return err
	}
	err = o.attachHook(hook{bpf.ProgSetsockopt, ebpf.AttachCGroupSetsockopt, b.setsockopt}, bpf.ProgSetsockopt, cgroup)
	if err != nil {
		return err
	}
	return b.attachRecv()
}

// attachRecv replaces the pinned link unless it runs the same program. Such a
// link takes no other program, so the old one goes first: bytes that are read
// in between stay counted as waiting, which sends a connection over to TCP a
// little early. Counting them twice would let more wait than may.
func (b *bypass) attachRecv() error {
	path := b.pins.path(linksDir, bpf.ProgRecv)
	old, err := openLink(path)
	if err != nil {
		return err
	}
	if old != nil {
		same := runs(old, b.recv)
		old.Close()
		if same {
			return nil
		}
		if err := remove(path); err != nil {
			return err
		}
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: b.recv})
	if err != nil {
		return fmt.Errorf("attach %s: %w", bpf.ProgRecv, err)
	}
	defer l.Close()
	return b.pins.pinLink(l, bpf.ProgRecv)
}

// runs reports whether a link runs a program with the code and the maps of p.
func runs(l link.Link, p *ebpf.Program) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	q, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return false
	}
	defer q.Close()
	have, err := q.Info()
	want, err2 := p.Info()
	if err != nil || err2 != nil || have.Tag != want.Tag {
		return false
	}
	haveMaps, _ := have.MapIDs()
	wantMaps, _ := want.MapIDs()
	return slices.Equal(haveMaps, wantMaps)
}

// detach takes both programs out of force, TLS's guard last.
func (b *bypass) detach() error {
	return errors.Join(
		remove(b.pins.path(linksDir, bpf.ProgRecv)),
		detachPinned(b.pins.path(linksDir, bpf.ProgSetsockopt)))
}

func (b *bypass) closers() []io.Closer {
	if b.recv == nil {
		return nil
	}
	return []io.Closer{b.recv, b.setsockopt}
}
