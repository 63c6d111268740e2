package nettest

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A node that tracks connections drops what belongs to none, and knows when one
// is closed.
func TestTrackConnections(t *testing.T) {
	RequireRoot(t)
	for _, tracked := range []bool{false, true} {
		node := Netns(t)
		a := node.Pod(t, "a", "10.9.0.1", "fd09::1")
		b := node.Pod(t, "b", "10.9.0.2", "fd09::2")
		if tracked {
			node.TrackConnections(t)
		}
		seen := watchTCP(t, b)
		var l net.Listener
		b.Do(t, func() {
			var err error
			if l, err = net.Listen("tcp4", b.IPv4.String()+":0"); err != nil {
				t.Fatal(err)
			}
		})
		defer l.Close()
		stray(t, a, b)
		var c net.Conn
		a.Do(t, func() {
			var err error
			if c, err = net.DialTimeout("tcp4", l.Addr().String(), 20*time.Second); err != nil {
				t.Fatal(err)
			}
		})
		defer c.Close()

		first, want := seen(), byte(synAck)
		if tracked {
			want = syn
		}
		if first != want {
			t.Errorf("tracked %v: the first segment has flags %#x, want %#x", tracked, first, want)
		}
		if tracked {
			established(t, node, 1)
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			accepted.Close()
			c.Close()
			established(t, node, 0)
		}
	}
}

// established waits until a namespace knows n established connections.
func established(t *testing.T, ns *NS, n int) {
	t.Helper()
	for range 2000 {
		known := -1
		ns.Do(t, func() { known = len(Connections(t)) })
		if known == n {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("the node does not know %d established connections", n)
}

// Flags of a TCP segment.
const (
	syn    = 0x02
	synAck = 0x12
)

// watchTCP returns a function that returns the flags of the next segment that
// reaches a pod.
func watchTCP(t *testing.T, p *Pod) func() byte {
	t.Helper()
	fd := rawTCP(t, p)
	return func() byte {
		buf := make([]byte, 128)
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil || n < 40 {
			t.Fatalf("receive a segment: %d bytes, %v", n, err)
		}
		return buf[20+13]
	}
}

// stray sends the answer to a connection that nobody asked for.
func stray(t *testing.T, from, to *Pod) {
	t.Helper()
	segment := make([]byte, 20)
	segment[1], segment[3], segment[12], segment[13] = 1, 2, 5<<4, synAck
	if err := unix.Sendto(rawTCP(t, from), segment, 0, &unix.SockaddrInet4{Addr: to.IPv4.As4()}); err != nil {
		t.Fatalf("send a segment: %v", err)
	}
}

func rawTCP(t *testing.T, p *Pod) (fd int) {
	t.Helper()
	p.Do(t, func() {
		var err error
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		t.Fatal(err)
	}
	return fd
}
