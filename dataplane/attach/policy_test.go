package attach

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/nettest"
)

// govern gives the clusters of both families a policy.
func (r *rig) govern(policy bpf.ClusterVal) {
	r.Helper()
	for family := range uint64(2) {
		var now bpf.ClusterVal
		if err := r.kernel.Maps()[bpf.MapClusters].Lookup(clusterID+family, &now); err != nil {
			r.Fatal(err)
		}
		policy.Count = now.Count
		r.put(bpf.MapClusters, clusterID+family, policy)
	}
}

// hangUp closes a socket of the rig now; its number stays taken until the end.
func hangUp(t testing.TB, fd int) {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if err := unix.Dup3(null, fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// loadOf is what the kernel knows of a cluster with a policy.
func (r *rig) loadOf(family int) (l bpf.LoadVal) {
	r.Helper()
	cluster := uint64(clusterID)
	if family == unix.AF_INET6 {
		cluster++
	}
	if err := r.kernel.Maps()[bpf.MapLoads].Lookup(cluster, &l); err != nil {
		r.Fatalf("read %s: %v", bpf.MapLoads, err)
	}
	return l
}

// silence makes the node lose what is sent to an address.
func (r *rig) silence(a netip.Addr) {
	r.Helper()
	family := "ip"
	if a.Is6() {
		family = "ip6"
	}
	r.node.Do(r, func() {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(
			"table %s silence { chain in { type filter hook prerouting priority 0; %[1]s daddr %s drop; }; }", family, a))
		if out, err := cmd.CombinedOutput(); err != nil {
			r.Fatalf("nft: %v: %s", err, out)
		}
	})
}

// A cluster takes as many connections as its policy says, and one more for each
// that is closed, whether it was made or failed, and by whichever socket.
func TestMaxConnections(t *testing.T) {
	r := newRig(t)
	r.open()
	endpoints := r.echoes()
	r.enrol(r.client)
	r.serve(0, endpoints...)
	r.govern(bpf.ClusterVal{MaxConnections: 2})
	for _, f := range families[:2] {
		t.Run(f.name, func(t *testing.T) {
			connect := func() (int, error) {
				fd := r.socket(r.client.NS, f.family, unix.SOCK_STREAM, 0)
				return fd, nettest.Connect(fd, sockaddr(f.family, vip(f.vip)))
			}
			before := r.reasons(bpf.ReasonMaxConnections)
			for range 3 {
				first, err := connect()
				if err != nil {
					t.Fatal(err)
				}
				second, err := connect()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := connect(); err != unix.ECONNREFUSED {
					t.Errorf("connect beyond the limit: %v, want ECONNREFUSED", err)
				}
				udp := r.socket(r.client.NS, f.family, unix.SOCK_DGRAM, 0)
				if err := nettest.Connect(udp, sockaddr(f.family, vip(f.vip))); err != nil {
					t.Errorf("UDP beyond the limit of TCP: %v", err)
				}
				wantGreeting(t, fdConn(first), "pod")
				hangUp(t, first)
				third, err := connect()
				if err != nil {
					t.Errorf("connect after another closed: %v", err)
				}
				hangUp(t, second)
				hangUp(t, third)
			}
			if n := r.reasons(bpf.ReasonMaxConnections) - before; n != 3 {
				t.Errorf("%d refusals are counted, want 3", n)
			}
			if l := r.loadOf(f.family); l.Open != 0 {
				t.Errorf("%d connections are open, want none", l.Open)
			}
		})
	}
}

// A socket that failed to connect and tries again takes its own place, and a
// limit that is lifted meanwhile leaves no count behind.
func TestMaxConnectionsOfOneSocket(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client)
	r.serve(0, netip.AddrPortFrom(r.server.IPv4, 9)) // nobody listens
	r.govern(bpf.ClusterVal{MaxConnections: 1})
	fd := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_STREAM, 0)
	for range 3 {
		if err := nettest.Connect(fd, sockaddr(unix.AF_INET, vip(vip4))); err != unix.ECONNREFUSED {
			t.Fatalf("connect: %v, want ECONNREFUSED", err)
		}
	}
	if n, l := r.reasons(bpf.ReasonMaxConnections), r.loadOf(unix.AF_INET); n != 0 || l.Open != 1 {
		t.Errorf("%d refusals and %d open connections, want 0 and 1", n, l.Open)
	}
	r.govern(bpf.ClusterVal{})
	if err := nettest.Connect(fd, sockaddr(unix.AF_INET, vip(vip4))); err != unix.ECONNREFUSED {
		t.Fatalf("connect: %v, want ECONNREFUSED", err)
	}
	if l := r.loadOf(unix.AF_INET); l.Open != 0 {
		t.Errorf("%d connections are open without a limit, want none", l.Open)
	}
}

// An endpoint that refuses as often in a row as it may gets no connections until
// its time is over, and no more endpoints are ejected than may be.
func TestEjection(t *testing.T) {
	for _, f := range families[:2] {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			r.open()
			r.enrol(r.client)
			address := r.server.IPv4
			if f.family == unix.AF_INET6 {
				address = r.server.IPv6
			}
			good := r.echo(r.server.NS, "good", address.String(), 8080).AddrPort
			bad := []netip.AddrPort{netip.AddrPortFrom(address, 9), netip.AddrPortFrom(address, 10)}
			r.serve(0, good, bad[0], bad[1])
			r.govern(bpf.ClusterVal{MaxFailures: 3, EjectionMs: 600_000, MaxEjected: 1})
			failed := func(n int) (failures int) {
				for range n {
					fd := r.socket(r.client.NS, f.family, unix.SOCK_STREAM, 0)
					switch err := nettest.Connect(fd, sockaddr(f.family, vip(f.vip))); err {
					case nil:
					case unix.ECONNREFUSED:
						failures++
					default:
						t.Fatal(err)
					}
					hangUp(t, fd)
				}
				return failures
			}
			r.eventually(func() error {
				failed(1)
				if n := r.reasons(bpf.ReasonEjected); n != 1 {
					return fmt.Errorf("%d endpoints were ejected, want 1", n)
				}
				return nil
			})
			before := [2]uint64{r.stats(bad[0]).Opened, r.stats(bad[1]).Opened}
			failed(60)
			more := [2]uint64{r.stats(bad[0]).Opened - before[0], r.stats(bad[1]).Opened - before[1]}
			// An endpoint is drawn eight times at most, and once in 6,561 connections all
			// draws are the ejected one. Were it not ejected it would get twenty.
			if min(more[0], more[1]) > 3 || max(more[0], more[1]) < 10 {
				t.Errorf("the bad endpoints got %v of 60 connections, want one of them almost none and the other half", more)
			}
			if l := r.loadOf(f.family); l.Ejected != 1 {
				t.Errorf("%d endpoints are ejected, want 1", l.Ejected)
			}
			r.expire()
			r.eventually(func() error {
				failed(5)
				if n := r.reasons(bpf.ReasonEjected); n != 2 {
					return fmt.Errorf("%d ejections, want another one after the first is over", n)
				}
				return nil
			})
		})
	}
}

// expire lets the ejections be over.
func (r *rig) expire() {
	r.Helper()
	var cluster uint64
	var load bpf.LoadVal
	loads, outliers := r.kernel.Maps()[bpf.MapLoads].Iterate(), r.kernel.Maps()[bpf.MapOutliers].Iterate()
	for loads.Next(&cluster, &load) {
		load.UntilNs = 0
		r.put(bpf.MapLoads, cluster, load)
	}
	var key bpf.OutlierKey
	var val bpf.OutlierVal
	for outliers.Next(&key, &val) {
		r.put(bpf.MapOutliers, key, bpf.OutlierVal{})
	}
}

// Failures that are not in a row eject nobody.
func TestEjectionNeedsARow(t *testing.T) {
	r := newRig(t)
	r.open()
	r.enrol(r.client)
	at := netip.AddrPortFrom(r.server.IPv4, 8080)
	r.serve(0, at)
	r.govern(bpf.ClusterVal{MaxFailures: 2, EjectionMs: 60_000, MaxEjected: 1})
	connect := func() error {
		fd := r.socket(r.client.NS, unix.AF_INET, unix.SOCK_STREAM, 0)
		defer hangUp(t, fd)
		return nettest.Connect(fd, sockaddr(unix.AF_INET, vip(vip4)))
	}
	for range 3 {
		if err := connect(); err != unix.ECONNREFUSED {
			t.Fatalf("connect: %v, want ECONNREFUSED", err)
		}
		listener := r.socket(r.server.NS, unix.AF_INET, unix.SOCK_STREAM, 0)
		if err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(listener, sockaddr(unix.AF_INET, at)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(listener, 4); err != nil {
			t.Fatal(err)
		}
		if err := connect(); err != nil {
			t.Fatal(err)
		}
		hangUp(t, listener)
	}
	if n := r.reasons(bpf.ReasonEjected); n != 0 {
		t.Errorf("%d ejections, want none", n)
	}
}

// A connection that does not come about is given up after the policy's time, and
// one that does keeps nothing of it. A program's own setting stands.
func TestConnectTimeout(t *testing.T) {
	r := newRig(t)
	r.open()
	endpoints := r.echoes()
	r.enrol(r.client)
	userTimeout := func(fd int) int {
		t.Helper()
		ms, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		if err != nil {
			t.Fatal(err)
		}
		return ms
	}
	for _, f := range families[:2] {
		t.Run(f.name, func(t *testing.T) {
			r.serve(0, endpoints...)
			r.govern(bpf.ClusterVal{ConnectTimeoutMs: 1500})
			fd := r.socket(r.client.NS, f.family, unix.SOCK_STREAM, 0)
			if err := nettest.Connect(fd, sockaddr(f.family, vip(f.vip))); err != nil {
				t.Fatal(err)
			}
			if ms := userTimeout(fd); ms != 0 {
				t.Errorf("TCP_USER_TIMEOUT of a connection that stands is %d ms, want 0", ms)
			}
			own := r.socket(r.client.NS, f.family, unix.SOCK_STREAM, 0)
			if err := unix.SetsockoptInt(own, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 7000); err != nil {
				t.Fatal(err)
			}
			if err := nettest.Connect(own, sockaddr(f.family, vip(f.vip))); err != nil {
				t.Fatal(err)
			}
			if ms := userTimeout(own); ms != 7000 {
				t.Errorf("the program's TCP_USER_TIMEOUT is %d ms, want its 7000", ms)
			}

			silent := netip.MustParseAddrPort("203.0.113.1:80")
			if f.family == unix.AF_INET6 {
				silent = netip.MustParseAddrPort("[2001:db8::1]:80")
			}
			r.silence(silent.Addr())
			r.serve(0, silent)
			r.govern(bpf.ClusterVal{ConnectTimeoutMs: 1500})
			late := r.socket(r.client.NS, f.family, unix.SOCK_STREAM, 0)
			if err := nettest.Connect(late, sockaddr(f.family, vip(f.vip))); err != unix.ETIMEDOUT {
				t.Errorf("connect to nobody: %v, want ETIMEDOUT", err)
			}
		})
	}
	if n := r.reasons(bpf.ReasonTimeoutUnset); n != 0 {
		t.Errorf("%d connections kept the kernel's timeout", n)
	}
}
