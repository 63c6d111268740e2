package attach

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
)

// A packet that another CPU was slower with than with the reset behind it is
// delivered, and conntrack does not take it for a connection.
func TestFastPathLatePacket(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		// Its checksum is wrong, so that nobody answers; conntrack does not look.
		f.node.Do(t, func() { f.node.Sysctl(t, "net/netfilter/nf_conntrack_checksum", "0") })
		c := f.connect(f.servers[0])
		local := c.LocalAddr().(*net.TCPAddr).AddrPort()
		f.reset(c)
		f.frames(f.client).send(unix.ETH_P_IP, tcp4(local, f.servers[0].AddrPort, 0x10)) // ACK
		f.eventually(func() error {
			if n := f.damaged(); n != 1 {
				return fmt.Errorf("%d late packets were delivered, want 1", n)
			}
			return nil
		})
		if n := f.established(); n != 0 {
			t.Errorf("conntrack takes the late packet for one of %d connections", n)
		}
	})
}

// A connection whose name had another one a moment ago is a new one: its handshake
// goes through the stack, and it joins the fast path.
func TestFastPathNameAgain(t *testing.T) {
	inBothModesFast(t, func(t *testing.T, f *fastRig) {
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.client.IPv4, 40000)), Timeout: patience}
		for i := range 3 {
			var c net.Conn
			var err error
			f.client.Do(t, func() { c, err = dialer.Dial("tcp", f.servers[0].String()) })
			if err != nil {
				t.Fatalf("connection %d: %v", i+1, err)
			}
			wantGreeting(t, c, "pod")
			if n := f.reasons(bpf.ReasonFastPath); n != uint64(i+1) || f.now() != 1 {
				t.Errorf("connection %d: %d have joined the fast path, %d are there; want %d and 1", i+1, n, f.now(), i+1)
			}
			f.reset(c.(*net.TCPConn))
		}
	})
}

// reset ends a connection by a reset, and waits until nothing is left of it.
func (f *fastRig) reset(c *net.TCPConn) {
	f.Helper()
	if err := c.SetLinger(0); err != nil {
		f.Fatal(err)
	}
	c.Close()
	f.settled()
}

// damaged is how many segments with a wrong checksum the server's pod received.
func (f *fastRig) damaged() (n int) {
	f.Helper()
	var text []byte
	var err error
	f.server.Do(f, func() { text, err = os.ReadFile("/proc/thread-self/net/snmp") })
	if err != nil {
		f.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Tcp:" {
			continue
		}
		if i := slices.Index(names, "InCsumErrors"); i > 0 {
			n, err = strconv.Atoi(fields[i])
		}
		names = fields
	}
	if err != nil || names == nil {
		f.Fatalf("no statistics of TCP (%v): %s", err, text)
	}
	return n
}
