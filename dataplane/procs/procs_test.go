package procs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"heddle.io/heddle/dataplane/nettest"
)

const uid = "0a1b2c3d-1111-2222-3333-0123456789ab"

func TestUID(t *testing.T) {
	for cgroups, want := range map[string]string{
		"0::/kubepods/burstable/pod" + uid + "/abc\n": uid,
		"0::/kubepods/pod" + uid + "/abc\n":           uid,
		"0::/../../pod" + uid + "/abc\n":              uid,
		"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0a1b2c3d_1111_2222_3333_0123456789ab.slice/cri-x.scope\n": uid,
		"0::/kubepods.slice/kubepods-pod0a1b2c3d_1111_2222_3333_0123456789ab.slice/x\n":                                                uid,
		"9:name=systemd:/\n4:memory:/kubepods/burstable/pod" + uid + "/abc\n0::/\n":                                                    uid,
		"0::/kubepods/besteffort/pod0123456789abcdef0123456789abcdef/abc\n":                                                            "0123456789abcdef0123456789abcdef",
		"0::/kubepods/burstable/pod" + uid + "/app/kubepods/pod11111111-1111-2222-3333-0123456789ab/x\n":                               uid,
		"0::/../pod" + uid + "/app/pod11111111-1111-2222-3333-0123456789ab\n":                                                          uid,
		"0::/system.slice/containerd.service\n":                                                                                        "",
		"0::/user.slice/podman-1234.scope\n":                                                                                           "",
		"0::/kubepods/burstable\n":                                                                                                     "",
		"0::/kubepods/podolatry/abc\n":                                                                                                 "",
		"":                                                                                                                             "", "garbage": "", "0::": "",
	} {
		if got := UID(cgroups, "0::/\n"); got != want {
			t.Errorf("%q is of pod %q, want %q", cgroups, got, want)
		}
	}
}

// The pod that the reader's node runs in, or the reader itself, is not the pod of
// others; what a pod makes below its own cgroup is not, either.
func TestUIDAsSeenFromWithinAPod(t *testing.T) {
	const node = "/kubepods/pod11111111-1111-2222-3333-0123456789ab/c"
	const forged = "/kubepods/pod22222222-1111-2222-3333-0123456789ab"
	pod := node + "/kubepods/burstable/pod" + uid + "/app"
	for _, own := range []string{
		node + "/system/agent",
		node + "/kubepods/burstable/pod33333333-1111-2222-3333-0123456789ab/agent",
	} {
		for path, want := range map[string]string{pod: uid, pod + forged: uid, node + "/system/containerd": "", own: ""} {
			for _, hierarchy := range []string{"0::", "4:memory:"} {
				if got := UID(hierarchy+path+"\n", "7:pids:/\n"+hierarchy+own+"\n"); got != want {
					t.Errorf("%s is of pod %q for a reader in %s, want %q", path, got, own, want)
				}
			}
		}
	}
}

func FuzzUID(f *testing.F) {
	f.Add("0::/kubepods/burstable/pod" + uid + "/abc\n")
	f.Fuzz(func(t *testing.T, cgroups string) {
		if n := len(UID(cgroups, cgroups[:len(cgroups)/2])); n != 0 && n != 32 && n != 36 {
			t.Errorf("a uid of %d characters in %q", n, cgroups)
		}
	})
}

func TestScanFindsTheFirstProcessOfAPod(t *testing.T) {
	nettest.RequireRoot(t)
	dir := filepath.Join(nettest.Cgroup(t), "kubepods", "burstable", "pod"+uid)
	began := time.Now()
	var pids []int
	for _, container := range []string{"pause", "app"} {
		pids = append(pids, inCgroup(t, filepath.Join(dir, container)))
		time.Sleep(3 * time.Second / ticks) // so that their times differ
	}
	found, err := Scan()
	if err != nil {
		t.Fatal(err)
	}
	p, ok := found[uid]
	if !ok || p.PID != pids[0] {
		t.Fatalf("found %+v, want process %d", found, pids[0])
	}
	if early := p.Started.Sub(began); early < -time.Second || early > time.Minute {
		t.Errorf("started at %v, which is %v after the test", p.Started, early)
	}
	path, err := p.Netns()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.Stat(path)
	want, wantErr := os.Stat("/proc/self/ns/net")
	if err != nil || wantErr != nil || !os.SameFile(got, want) {
		t.Errorf("%s is not the process's network namespace (%v, %v)", path, err, wantErr)
	}
}

// inCgroup runs a process in a cgroup until the test ends.
func inCgroup(t *testing.T, dir string) int {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}
