package attach

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// openBypass opens on a kernel that must have the bypass.
func (r *rig) openBypass() {
	r.Helper()
	r.open()
	for _, f := range r.kernel.Features() {
		if f.Name == SocketBypass && !f.On {
			r.Fatal(f.Reason)
		}
	}
}

func newBypassRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	r.openBypass()
	return r
}

// ask puts pods into the mesh and into the bypass.
func (r *rig) ask(pods ...*nettest.Pod) {
	r.Helper()
	r.setBypass(true)
	for _, p := range pods {
		r.put(bpf.MapPods, p.Cookie(), bpf.PodVal{Scope: 1, Flags: bpf.PodBypass})
		for _, a := range []netip.Addr{p.IPv4, p.IPv6} {
			r.put(bpf.MapBypass, bpf.AddrFrom(a), p.Cookie())
		}
	}
}

// leave takes pods out of the bypass; they stay in the mesh.
func (r *rig) leave(pods ...*nettest.Pod) {
	r.Helper()
	for _, p := range pods {
		for _, a := range []netip.Addr{p.IPv4, p.IPv6} {
			r.delete(bpf.MapBypass, bpf.AddrFrom(a))
		}
	}
	r.enrol(pods...)
}

func (r *rig) setBypass(on bool) {
	r.Helper()
	if err := r.kernel.SetBypass(on); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) bypassed() int {
	r.Helper()
	n, err := r.kernel.Bypassed()
	if err != nil {
		r.Fatal(err)
	}
	return n
}

// listen listens in a pod, on all its addresses.
func (r *rig) listen(ns *nettest.NS) (*net.TCPListener, uint16) {
	r.Helper()
	var l net.Listener
	var err error
	ns.Do(r, func() { l, err = net.Listen("tcp", ":0") })
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener), uint16(l.Addr().(*net.TCPAddr).Port)
}

// pair is a connection, both ends of it. The server's end is there before the
// client sends, so both directions can be bypassed.
func (r *rig) pair(from *nettest.NS, l *net.TCPListener, to netip.Addr) (client, server *net.TCPConn) {
	r.Helper()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	client = r.dial(from, "tcp", netip.AddrPortFrom(to, port).String())
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		r.Fatal(err)
	}
	server, err := l.AcceptTCP()
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { server.Close() })
	if err := server.SetDeadline(time.Now().Add(patience)); err != nil {
		r.Fatal(err)
	}
	return client, server
}

// talk sends some bytes in both directions.
func talk(a, b *net.TCPConn) error {
	for i := range 10 {
		text := fmt.Sprintf("message %d", i)
		for _, way := range [][2]*net.TCPConn{{a, b}, {b, a}} {
			if _, err := io.WriteString(way[0], text); err != nil {
				return err
			}
			buf := make([]byte, len(text))
			if _, err := io.ReadFull(way[1], buf); err != nil {
				return err
			}
			if string(buf) != text {
				return fmt.Errorf("sent %q, received %q", text, buf)
			}
		}
	}
	return nil
}

func (r *rig) mustTalk(a, b *net.TCPConn) {
	r.Helper()
	if err := talk(a, b); err != nil {
		r.Fatal(err)
	}
}

// overTCP is how many bytes of data a socket gave to TCP.
func (r *rig) overTCP(c *net.TCPConn) uint64 {
	r.Helper()
	var info *unix.TCPInfo
	r.control(c, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info.Bytes_sent
}

func (r *rig) control(c *net.TCPConn, do func(fd int) error) {
	r.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		r.Fatal(err)
	}
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) { failed = do(int(fd)) }), failed); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) wantReasons(reason bpf.Reason, want uint64) {
	r.Helper()
	if got := r.reasons(reason); got != want {
		r.Errorf("%s was counted %d times, want %d", reason, got, want)
	}
}

// wantEmpty waits until nothing of closed connections is left.
func (r *rig) wantEmpty() {
	r.Helper()
	r.eventually(func() error {
		if n := r.bypassed(); n > 0 {
			return fmt.Errorf("%d sockets are left in %s", n, bpf.MapSocks)
		}
		if n := r.entries(bpf.MapCredit); n > 0 {
			return fmt.Errorf("%d entries are left in %s", n, bpf.MapCredit)
		}
		var netns, sockets uint64
		for it := r.kernel.Maps()[bpf.MapShares].Iterate(); it.Next(&netns, &sockets); {
			if sockets != 0 {
				return fmt.Errorf("%d sockets of %d count against its share", int64(sockets), netns)
			}
		}
		return nil
	})
}

func (r *rig) entries(name string) int {
	r.Helper()
	n := 0
	if err := each(r.kernel.Maps()[name], func(_, _ []byte) error { n++; return nil }); err != nil {
		r.Fatal(err)
	}
	return n
}
