package attach

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strings"
	"testing"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// fastRig is a rig whose two pods may use the fast path.
type fastRig struct {
	*rig
	clientIf, serverIf uint32
	servers            []echo // IPv4, IPv6
}

// rules are what a node with kube-proxy and a CNI plugin has: conntrack, and
// no mercy for packets that it finds out of place.
const rules = `
table inet node {
	chain forward {
		type filter hook forward priority 0; policy accept;
		ct state invalid counter name "invalid" drop
	}
	counter invalid {}
}`

func newFastRig(t testing.TB, r *rig) *fastRig {
	t.Helper()
	f := &fastRig{rig: r}
	f.nft(rules)
	f.clientIf, f.serverIf = f.attach("client", r.client), f.attach("server", r.server)
	f.permit(f.clientIf, r.client)
	f.permit(f.serverIf, r.server)
	f.servers = []echo{
		f.echo(r.server.NS, "pod", r.server.IPv4.String(), 8080),
		f.echo(r.server.NS, "pod", r.server.IPv6.String(), 8080),
	}
	return f
}

// permit lets an interface take part in the fast path.
func (f *fastRig) permit(ifindex uint32, pod *nettest.Pod) {
	f.Helper()
	val := bpf.IfaceVal{Netns: pod.Cookie(), AddrCount: 2, Flags: bpf.IfaceFast | bpf.IfaceTracked}
	val.Addr[0], val.Addr[1] = bpf.AddrFrom(pod.IPv4), bpf.AddrFrom(pod.IPv6)
	f.put(bpf.MapIfaces, ifindex, val)
}

// nft loads rules into the node's namespace.
func (f *fastRig) nft(text string) {
	f.Helper()
	f.run(strings.NewReader(text), "nft", "-f", "-")
}

// run runs a program in the node's namespace.
func (f *fastRig) run(input io.Reader, name string, args ...string) string {
	f.Helper()
	var out []byte
	f.node.Do(f, func() {
		cmd := exec.Command(name, args...)
		cmd.Stdin = input
		var err error
		if out, err = cmd.CombinedOutput(); err != nil {
			f.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	})
	return string(out)
}

// established counts conntrack's established connections of the node.
func (f *fastRig) established() int {
	f.Helper()
	n := 0
	for _, family := range []string{"ipv4", "ipv6"} {
		n += strings.Count(f.run(nil, "conntrack", "-L", "-f", family, "-p", "tcp", "--state", "ESTABLISHED"), "ESTABLISHED")
	}
	return n
}

// now is the number of connections on the fast path.
func (f *fastRig) now() int {
	f.Helper()
	found, err := f.kernel.flows.list(everyFlow)
	if err != nil {
		f.Fatal(err)
	}
	return len(found)
}

// use is how much of its share a pod has taken.
func (f *fastRig) use(ifindex uint32) (n uint64) {
	f.Helper()
	if err := f.kernel.Maps()[bpf.MapFastUse].Lookup(ifindex, &n); err != nil {
		return 0
	}
	return n
}

// settled waits until nothing is left of closed connections.
func (f *fastRig) settled() {
	f.Helper()
	f.eventually(func() error {
		if now, use := f.now(), f.use(f.clientIf)+f.use(f.serverIf); now != 0 || use != 0 {
			return fmt.Errorf("%d connections in hd_fast, shares of %d, want none", now, use)
		}
		if n := f.established(); n != 0 {
			return fmt.Errorf("conntrack still has %d established connections", n)
		}
		return nil
	})
}

// connect dials the server and waits for its greeting.
func (f *fastRig) connect(e echo) *net.TCPConn {
	f.Helper()
	c := f.dial(f.client.NS, "tcp", e.String())
	wantGreeting(f, c, "pod")
	return c
}

func inBothModesFast(t *testing.T, test func(t *testing.T, f *fastRig)) {
	inBothModes(t, func(t *testing.T, r *rig) { test(t, newFastRig(t, r)) })
}

// bulk sends random bytes through the echo server and compares.
func bulk(c *net.TCPConn, size int64) error {
	sent := make(chan [32]byte, 1)
	failed := make(chan error, 1)
	go func() {
		h := sha256.New()
		_, err := io.CopyN(io.MultiWriter(c, h), rand.NewChaCha8([32]byte{1}), size)
		if err == nil {
			err = c.CloseWrite()
		}
		sent <- [32]byte(h.Sum(nil))
		failed <- err
	}()
	h := sha256.New()
	n, err := io.Copy(h, c)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	if n != size || [32]byte(h.Sum(nil)) != <-sent {
		return fmt.Errorf("received %d of %d bytes, or others than were sent", n, size)
	}
	return nil
}

func (f *fastRig) detach(ifindex uint32) {
	f.Helper()
	f.node.Do(f, func() {
		if err := f.kernel.DetachIface(ifindex); err != nil {
			f.Error(err)
		}
	})
}

func (f *fastRig) leave(ifindex uint32) {
	f.Helper()
	f.node.Do(f, func() {
		if err := f.kernel.LeaveFastPath(ifindex); err != nil {
			f.Error(err)
		}
	})
}
