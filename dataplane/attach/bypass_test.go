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

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

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
	if err := nettest.Connect(int(mapped), sockaddr(unix.AF_INET6, at)); err != nil {
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
				return errors.Join(nettest.Connect(fd, to), unix.Send(fd, []byte("A"), 0))
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
				var server int
				err := nettest.Again(func() (err error) { server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); return })
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
