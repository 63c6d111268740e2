package nettest

import (
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPodsReachEachOther(t *testing.T) {
	RequireRoot(t)
	node := Netns(t)
	a := node.Pod(t, "a", "10.9.0.1", "fd09::1")
	b := node.Pod(t, "b", "10.9.0.2", "fd09::2")
	for _, addr := range []string{b.IPv4.String(), b.IPv6.String()} {
		var l net.Listener
		b.Do(t, func() {
			var err error
			if l, err = net.Listen("tcp", net.JoinHostPort(addr, "0")); err != nil {
				t.Fatal(err)
			}
		})
		defer l.Close()
		a.Do(t, func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		})
	}
}

func TestJoinReturnsHome(t *testing.T) {
	RequireRoot(t)
	before := ownCgroup(t)
	var inside string
	t.Run("joined", func(t *testing.T) {
		dir := Cgroup(t)
		Join(t, dir)
		if inside = ownCgroup(t); !strings.HasSuffix(dir, inside) {
			t.Errorf("own cgroup is %s, want %s", inside, dir)
		}
	})
	if after := ownCgroup(t); after != before {
		t.Errorf("own cgroup after the test is %s, want %s", after, before)
	}
}

func ownCgroup(t *testing.T) string {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	t.Fatalf("no cgroup2 line in %q", own)
	return ""
}

func TestPinsIsBpffsAndEnds(t *testing.T) {
	RequireBPF(t)
	var dir string
	t.Run("mounted", func(t *testing.T) {
		dir = Pins(t)
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
			t.Errorf("statfs: %v, type %#x", err, st.Type)
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the mount point is still there: %v", err)
	}
}
