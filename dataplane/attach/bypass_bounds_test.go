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

// What a reader does not read is bounded, arrives in order, and the sender
// waits like one of TCP.
func TestBypassSlowReader(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	const buffers = 128 << 10
	for _, c := range []*net.TCPConn{client, server} {
		if err := errors.Join(c.SetReadBuffer(buffers), c.SetWriteBuffer(buffers)); err != nil {
			t.Fatal(err)
		}
	}
	sent := fill(t, r, client)
	// The kernel doubles buffers, and its bookkeeping of them is coarse.
	const bound = (512 << 10) + 17*(32<<10) + 8*buffers
	if sent < 512<<10 || sent > bound {
		t.Errorf("%d bytes were taken of a sender whose reader stands still, want 512 KiB to %d", sent, bound)
	}
	r.wantReasons(bpf.ReasonBypassSlow, 1)
	if r.overTCP(client) == 0 {
		t.Error("nothing went over TCP")
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(server)
	if err != nil || len(got) != sent {
		t.Fatalf("read %d of %d bytes, error %v", len(got), sent, err)
	}
	for i, b := range got {
		if b != pattern(i) {
			t.Fatalf("byte %d is %d, want %d", i, b, pattern(i))
		}
	}
	if _, err := io.WriteString(server, "answer"); err != nil {
		t.Fatal(err)
	}
	wantGreeting(t, client, "answer")
}

func pattern(i int) byte { return byte(i ^ i>>8 ^ i>>16) }

// fill writes until nothing is taken any more, and returns how much was.
func fill(t *testing.T, r *rig, c *net.TCPConn) (sent int) {
	t.Helper()
	r.control(c, func(fd int) error {
		piece := make([]byte, 10_000)
		for {
			for i := range piece {
				piece[i] = pattern(sent + i)
			}
			n, err := unix.Write(fd, piece)
			switch {
			case n > 0:
				sent += n
			case errors.Is(err, unix.EAGAIN):
				ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 500)
				if err != nil && !errors.Is(err, unix.EINTR) || ready == 0 && err == nil {
					return err
				}
			default:
				return err
			}
			if sent > 64<<20 {
				return errors.New("64 MiB were taken, and no end")
			}
		}
	})
	return sent
}

// Where the map is full, and where a pod has its share of it, connections work
// without the bypass.
func TestBypassIsBounded(t *testing.T) {
	r := newRig(t)
	r.options.Limits = map[string]uint32{bpf.MapSocks: 4, bpf.MapCredit: 4} // one for each pod
	r.openBypass()
	pods := []*nettest.Pod{r.client, r.server}
	for i := range 4 {
		pods = append(pods, r.node.Pod(t, fmt.Sprintf("more%d", i), fmt.Sprintf("10.9.1.%d", i), fmt.Sprintf("fd09:1::%d", i+1)))
	}
	r.ask(pods...)
	l, _ := r.listen(r.server.NS)
	first, firstServer := r.pair(r.client.NS, l, r.server.IPv4)
	r.mustTalk(first, firstServer)
	second, secondServer := r.pair(r.client.NS, l, r.server.IPv4)
	r.mustTalk(second, secondServer)
	if r.overTCP(first) != 0 || r.overTCP(second) == 0 {
		t.Errorf("%d bytes of the first connection and %d of the second went over TCP", r.overTCP(first), r.overTCP(second))
	}
	r.wantReasons(bpf.ReasonBypassShare, 2)

	for i, want := range []uint64{0, 2} {
		l, _ := r.listen(pods[3+2*i].NS)
		client, server := r.pair(pods[2+2*i].NS, l, pods[3+2*i].IPv4)
		r.mustTalk(client, server)
		r.wantReasons(bpf.ReasonBypassFull, want)
		if i == 1 && r.overTCP(client) == 0 {
			t.Error("a connection was bypassed although the map was full")
		}
	}
	// What is closed makes room.
	first.Close()
	firstServer.Close()
	r.eventually(func() error {
		third, thirdServer := r.pair(r.client.NS, l, r.server.IPv4)
		r.mustTalk(third, thirdServer)
		if r.overTCP(third) != 0 {
			return errors.New("no connection was bypassed after one was closed")
		}
		return nil
	})
}

// greetAndEcho serves as echo does, by reads and writes alone: io.Copy from one
// connection to another calls splice, which sees nothing of bypassed bytes.
func greetAndEcho(l *net.TCPListener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := io.WriteString(c, "pod"); err == nil {
				_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			}
		}()
	}
}

// Many connections at once, and many one after the other, leave nothing behind.
func TestBypassManyConnections(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, port := r.listen(r.server.NS)
	to := netip.AddrPortFrom(r.server.IPv4, port).String()
	go greetAndEcho(l)
	converse := func(c *net.TCPConn) {
		t.Helper()
		wantGreeting(t, c, "pod")
		if err := exchange(c, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	var open []*net.TCPConn
	for range 2000 {
		open = append(open, r.dial(r.client.NS, "tcp", to))
	}
	for _, c := range open {
		converse(c)
	}
	if n := r.bypassed(); n != 4000 {
		t.Errorf("%d sockets in %s, want 4000", n, bpf.MapSocks)
	}
	for _, c := range open {
		c.Close()
	}
	r.client.Do(t, func() {
		for range 5000 {
			c, err := net.Dial("tcp", to)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			converse(c.(*net.TCPConn))
			c.Close()
		}
	})
	r.wantEmpty()
	r.wantReasons(bpf.ReasonBypassed, 7000)
}
