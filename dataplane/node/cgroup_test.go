package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"heddle.io/heddle/dataplane/nettest"
)

func TestOwnCgroupFromProc(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"unified/kube/pod1", "with space/kube"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hybrid := "30 20 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	for name, test := range map[string]struct {
		cgroup, mounts, want string
	}{
		"hybrid":       {"4:memory:/x\n0::/kube/pod1\n", hybrid + "31 20 0:31 / BASE/unified rw shared:9 - cgroup2 cgroup2 rw\n", "unified/kube/pod1"},
		"root":         {"0::/\n", "31 20 0:31 / BASE/unified rw - cgroup2 cgroup2 rw\n", "unified"},
		"part mounted": {"0::/kube/pod1\n", "31 20 0:31 /kube BASE/unified/kube rw - cgroup2 none rw\n", "unified/kube/pod1"},
		"escaped":      {"0::/kube\n", `31 20 0:31 / BASE/with\040space rw - cgroup2 none rw` + "\n", "with space/kube"},
		// A container with a cgroup namespace of its own and the node's mount.
		"second mount": {"0::/\n", "31 20 0:31 /../.. BASE/none rw - cgroup2 none rw\n32 20 0:31 / BASE/unified rw - cgroup2 none rw\n", "unified"},
		"other part":   {"0::/kube/pod1\n", "31 20 0:31 /kub BASE/unified rw - cgroup2 none rw\n", ""},
		"no mount":     {"0::/kube\n", hybrid, ""},
		"no cgroup2":   {"4:memory:/x\n", hybrid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cgroup, mounts := filepath.Join(dir, "cgroup"), filepath.Join(dir, "mountinfo")
			write(t, cgroup, test.cgroup)
			write(t, mounts, strings.ReplaceAll(test.mounts, "BASE", base))
			got, err := ownCgroup(cgroup, mounts)
			if test.want == "" {
				if err == nil {
					t.Fatalf("found %s", got)
				}
				return
			}
			if want := filepath.Join(base, test.want); err != nil || got != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		})
	}
}

func write(t *testing.T, path, contents string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Outside of the captured cgroups the agent needs no exemption; in the root of
// them it makes itself a child; below them its own cgroup is exempt.
func TestOwnCgroupIsExemptWhereTheHooksSeeIt(t *testing.T) {
	nettest.RequireRoot(t)
	root := nettest.Cgroup(t)
	ids, err := ownCgroups(root)
	if err != nil || len(ids) != 0 {
		t.Fatalf("outside: %v, %v", ids, err)
	}
	t.Run("root", func(t *testing.T) {
		nettest.Join(t, root)
		for range 2 { // the second time the child exists and holds the process
			ids, err := ownCgroups(root)
			want := []uint64{nettest.CgroupID(t, filepath.Join(root, ownChild))}
			if err != nil || !slices.Equal(ids, want) {
				t.Fatalf("got %v, %v; want %v", ids, err, want)
			}
		}
	})
	t.Run("below", func(t *testing.T) {
		pod := filepath.Join(root, "kube", "pod")
		if err := os.MkdirAll(pod, 0o755); err != nil {
			t.Fatal(err)
		}
		nettest.Join(t, pod)
		ids, err := ownCgroups(root)
		if want := []uint64{nettest.CgroupID(t, pod)}; err != nil || !slices.Equal(ids, want) {
			t.Fatalf("got %v, %v; want %v", ids, err, want)
		}
	})
}

// A container that has a view of its own and was given the node's at another
// place captures the node's, and its own cgroup is below it.
func TestCgroupsOfAContainer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mountinfo")
	write(t, file, "31 20 0:31 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n32 20 0:31 /../../.. /host/cgroup rw - cgroup2 none rw\n")
	if dir, err := cgroupRoot(file); err != nil || dir != "/host/cgroup" {
		t.Errorf("root %q, %v; want the node's", dir, err)
	}
	for dir, want := range map[string]bool{"/host/cgroup": true, "/host/cgroup/x": true, "/sys/fs/cgroup/x": false, "/hostess": false} {
		if above, err := aboveNamespace(dir, file); err != nil || above != want {
			t.Errorf("%s above: %v, %v; want %v", dir, above, err, want)
		}
	}
}
