package attach

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// newBypassRig is a node that is open, with a kernel that has the bypass.
func newBypassRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	if f := bypassFeature(mustSpec(t)); !f.On {
		t.Skip("left out: " + f.Reason)
	}
	r.open()
	return r
}

func mustSpec(t testing.TB) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
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

func TestBypass(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	for i, to := range []netip.Addr{r.server.IPv4, r.server.IPv6} {
		client, server := r.pair(r.client.NS, l, to)
		r.mustTalk(client, server)
		if a, b := r.overTCP(client), r.overTCP(server); a+b > 0 {
			t.Errorf("to %v: %d and %d bytes went over TCP", to, a, b)
		}
		r.wantReasons(bpf.ReasonBypassed, uint64(i+1))
		if n := r.bypassed(); n != 2 {
			t.Errorf("%d sockets in %s, want 2", n, bpf.MapSocks)
		}
		var key bpf.SockKey
		var credit bpf.CreditVal
		for it := r.kernel.Maps()[bpf.MapCredit].Iterate(); it.Next(&key, &credit); {
			if credit.Waiting != 0 {
				t.Errorf("%d bytes wait, all were read", credit.Waiting)
			}
		}
		client.Close()
		if n, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read %d bytes, error %v after the other end closed", n, err)
		}
		server.Close()
		r.wantEmpty()
	}
}

// An IPv4 connection of an IPv6 socket, and one by a service's address.
func TestBypassOtherAddresses(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, port := r.listen(r.server.NS)
	at := netip.AddrPortFrom(r.server.IPv4, port)
	r.serve(0, at)

	mapped := fdConn(r.socket(r.client.NS, unix.AF_INET6, unix.SOCK_STREAM, 0))
	if err := unix.Connect(int(mapped), sockaddr(unix.AF_INET6, at)); err != nil {
		t.Fatal(err)
	}
	server, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := mapped.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	wantGreeting(t, server, "hello")
	r.wantReasons(bpf.ReasonBypassed, 1)

	client := r.dial(r.client.NS, "tcp", vip(vip4).String())
	if server, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r.mustTalk(client, server)
	r.wantReasons(bpf.ReasonBypassed, 2)
}

// Who did not ask, on either side, has no socket in the map.
func TestBypassNeedsBothWords(t *testing.T) {
	r := newBypassRig(t)
	r.enrol(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	for name, asks := range map[string]*nettest.Pod{"client": r.client, "server": r.server} {
		r.ask(asks)
		client, server := r.pair(r.client.NS, l, r.server.IPv4)
		r.mustTalk(client, server)
		if n := r.bypassed(); n != 0 {
			t.Errorf("only the %s asked: %d sockets in %s", name, n, bpf.MapSocks)
		}
		if r.overTCP(client) == 0 || r.overTCP(server) == 0 {
			t.Errorf("only the %s asked: bytes did not go over TCP", name)
		}
		r.leave(asks)
	}
	r.wantReasons(bpf.ReasonBypassed, 0)
}

// Connections that are not between two pods stay as they are.
func TestBypassLeavesOthersAlone(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	for name, way := range map[string]struct {
		from *nettest.NS
		to   netip.Addr
	}{
		"from the node":  {r.node, r.server.IPv4},
		"itself":         {r.server.NS, r.server.IPv4},
		"loopback":       {r.server.NS, netip.MustParseAddr("127.0.0.1")},
		"IPv6 loopback":  {r.server.NS, netip.IPv6Loopback()},
		"itself by IPv6": {r.server.NS, r.server.IPv6},
	} {
		client, server := r.pair(way.from, l, way.to)
		r.mustTalk(client, server)
		if n := r.bypassed(); n != 0 {
			t.Errorf("%s: %d sockets in %s", name, n, bpf.MapSocks)
		}
	}
}

// Much data both ways at once, in pieces of all sizes, with half-closes.
func TestBypassBulk(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	const size = 64 << 20
	var all sync.WaitGroup
	sums := make([][2][]byte, 2)
	for i, way := range [][2]*net.TCPConn{{client, server}, {server, client}} {
		all.Go(func() {
			hash := sha256.New()
			random := rand.NewChaCha8([32]byte{byte(i)})
			pieces := rand.New(rand.NewPCG(uint64(i), 1))
			buf := make([]byte, 256<<10)
			for left := size; left > 0; {
				piece := buf[:min(1+pieces.IntN(len(buf)), left)]
				_, _ = random.Read(piece)
				hash.Write(piece)
				if _, err := way[0].Write(piece); err != nil {
					t.Error(err)
					return
				}
				left -= len(piece)
			}
			if err := way[0].CloseWrite(); err != nil {
				t.Error(err)
			}
			sums[i][0] = hash.Sum(nil)
		})
		all.Go(func() {
			hash := sha256.New()
			if n, err := io.Copy(hash, struct{ io.Reader }{way[1]}); err != nil || n != size {
				t.Errorf("read %d bytes, error %v", n, err)
			}
			sums[i][1] = hash.Sum(nil)
		})
	}
	all.Wait()
	for i, sum := range sums {
		if !bytes.Equal(sum[0], sum[1]) {
			t.Errorf("direction %d: other bytes came out than went in", i)
		}
	}
	r.wantReasons(bpf.ReasonBypassed, 1)
	t.Logf("over TCP: %d and %d bytes, slow %d", r.overTCP(client), r.overTCP(server), r.reasons(bpf.ReasonBypassSlow))
}

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

// Bytes that come with the handshake stay before all others.
func TestBypassKeepsTheOrder(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	for name, way := range map[string]struct {
		listen func(fd int) error
		first  func(fd int, to unix.Sockaddr) error
	}{
		"defer accept": {
			func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5) },
			func(fd int, to unix.Sockaddr) error {
				return errors.Join(unix.Connect(fd, to), unix.Send(fd, []byte("A"), 0))
			},
		},
		"fast open": {
			func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16) },
			func(fd int, to unix.Sockaddr) error {
				return unix.Sendto(fd, []byte("A"), unix.MSG_FASTOPEN, to)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			listener := r.socket(r.server.NS, unix.AF_INET, unix.SOCK_STREAM, 0)
			r.server.Do(t, func() {
				if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte("3"), 0); err != nil {
					t.Fatal(err)
				}
				err := errors.Join(unix.Bind(listener, sockaddr(unix.AF_INET, netip.AddrPortFrom(r.server.IPv4, 0))),
					way.listen(listener), unix.Listen(listener, 16))
				if err != nil {
					t.Fatal(err)
				}
			})
			name, err := unix.Getsockname(listener)
			if err != nil {
				t.Fatal(err)
			}
			for range 50 {
				client := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_STREAM, 0)
				if err := way.first(client, name); err != nil {
					t.Fatal(err)
				}
				for _, next := range []string{"B", "C"} {
					if err := unix.Send(client, []byte(next), 0); err != nil {
						t.Fatal(err)
					}
				}
				server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
				if err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 3)
				if _, err := io.ReadFull(fdConn(server), buf); err != nil || string(buf) != "ABC" {
					t.Errorf("read %q, error %v", buf, err)
				}
				unix.Close(server)
				unix.Close(client)
			}
		})
	}
	if r.reasons(bpf.ReasonBypassLate) == 0 {
		t.Error("no connection stayed on TCP for what came with its handshake")
	}
}

// TLS of the kernel is refused on a bypassed socket, and on no other.
func TestBypassRefusesTLS(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	plain, _ := r.pair(r.node, l, r.server.IPv4)
	ulp := func(c *net.TCPConn) (err error) {
		r.control(c, func(fd int) error {
			err = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, "tls")
			return nil
		})
		return err
	}
	for _, c := range []*net.TCPConn{client, server} {
		if err := ulp(c); !errors.Is(err, unix.ENOPROTOOPT) {
			t.Errorf("setsockopt(TCP_ULP): %v, want %v", err, unix.ENOPROTOOPT)
		}
	}
	r.wantReasons(bpf.ReasonBypassUlp, 2)
	if err := ulp(plain); errors.Is(err, unix.ENOPROTOOPT) {
		t.Errorf("setsockopt(TCP_ULP) on a plain connection: %v", err)
	}
	r.wantReasons(bpf.ReasonBypassUlp, 2)
	// Options longer than the program is shown must pass it.
	r.control(client, func(fd int) error {
		long := string(make([]byte, 8192))
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, long); err != nil {
			return fmt.Errorf("a long option: %w", err)
		}
		return nil
	})
	r.mustTalk(client, server)
	if a, b := r.overTCP(client), r.overTCP(server); a+b > 0 {
		t.Errorf("%d and %d bytes went over TCP", a, b)
	}
}

// Where the map is full, and where a pod has its share of it, connections work
// without the bypass.
func TestBypassIsBounded(t *testing.T) {
	r := newRig(t)
	if f := bypassFeature(mustSpec(t)); !f.On {
		t.Skip("left out: " + f.Reason)
	}
	r.options.Limits = map[string]uint32{bpf.MapSocks: 4, bpf.MapCredit: 4} // one for each pod
	r.open()
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

// Switching off, restarts of the agent and the loss of it leave connections
// alone; new ones are not bypassed any more.
func TestBypassSwitchedOff(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	var pairs [][2]*net.TCPConn
	for range 100 {
		client, server := r.pair(r.client.NS, l, r.server.IPv4)
		r.mustTalk(client, server)
		pairs = append(pairs, [2]*net.TCPConn{client, server})
	}
	unread := pairs[0]
	if _, err := io.WriteString(unread[0], "not read yet"); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for _, p := range pairs[1:] {
			if err := talk(p[0], p[1]); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if n := r.overTCP(p[0]); n > 0 {
				t.Fatalf("%s: %d bytes went over TCP", when, n)
			}
		}
	}
	r.reopen()
	check("after a restart")
	r.leave(r.client, r.server)
	r.setBypass(false)
	check("switched off")
	if on, err := r.kernel.bypass.attached(); err != nil || !on {
		t.Errorf("what guards bypassed sockets is gone before them: %v, error %v", on, err)
	}
	r.reopen()
	r.setBypass(false)
	check("switched off, after a restart")
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	r.mustTalk(client, server)
	if r.overTCP(client) == 0 {
		t.Error("a new connection was bypassed")
	}
	wantGreeting(t, unread[1], "not read yet")
	for _, p := range pairs {
		p[0].Close()
		p[1].Close()
	}
	r.wantEmpty()
	r.setBypass(false)
	if on, err := r.kernel.bypass.attached(); err != nil || on {
		t.Errorf("programs are still attached: %v, error %v", on, err)
	}
}

// Taking Heddle out of the kernel leaves bypassed connections alone too: the
// sockets hold what they need.
func TestBypassSurvivesRemove(t *testing.T) {
	r := newBypassRig(t)
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	r.mustTalk(client, server)
	if _, err := io.WriteString(client, "not read yet"); err != nil {
		t.Fatal(err)
	}
	if err := r.kernel.Close(); err != nil {
		t.Fatal(err)
	}
	r.node.Do(t, func() {
		if err := Remove(r.options); err != nil {
			t.Fatal(err)
		}
	})
	wantGreeting(t, server, "not read yet")
	r.mustTalk(client, server)
}

// A kernel without the bypass runs everything else.
func TestWithoutBypass(t *testing.T) {
	r := newRig(t)
	r.system.bypass = func(*ebpf.CollectionSpec) Feature { return Feature{SocketBypass, false, "as in a test"} }
	r.open()
	r.ask(r.client, r.server)
	l, _ := r.listen(r.server.NS)
	client, server := r.pair(r.client.NS, l, r.server.IPv4)
	r.mustTalk(client, server)
	if n := r.bypassed(); n != 0 {
		t.Errorf("%d sockets in %s", n, bpf.MapSocks)
	}
	names, err := r.kernel.bypass.pins.names(linksDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if isBypass(name) {
			t.Errorf("%s is attached", name)
		}
	}
}
