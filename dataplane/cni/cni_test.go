package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"heddle.io/heddle/dataplane/cni/plugin"
)

const conflist = `{
  "cniVersion": "1.0.0",
	"name": "k8s-pod-network",   "unknown": {"big": 12345678901234567890},
  "plugins": [
    {"type": "ptp", "ipam": {"type": "host-local"}, "also": [1, 2]},
    {
      "type": "portmap", "capabilities": {"portMappings": true}
    }
  ],
  "disableCheck": true
}
`

const singleConf = `{"cniVersion": "0.4.0", "name": "lone", "type": "bridge", "bridge": "cni0"}`

// rig is a runtime's directories and a keeper's options for them.
type rig struct {
	t *testing.T
	o Options
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t, Options{
		ConfDir: filepath.Join(dir, "net.d"), BinDir: filepath.Join(dir, "bin"), Binary: filepath.Join(dir, "image", plugin.Type),
		Socket: plugin.DefaultSocket, Policy: plugin.DefaultPolicy, Log: slog.New(slog.DiscardHandler),
	}}
	for _, dir := range []string{r.o.ConfDir, r.o.BinDir, filepath.Dir(r.o.Binary)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.write(r.o.Binary, "version 1")
	return r
}

func (r *rig) write(path, text string) {
	r.t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.o.ConfDir, path)
	}
	// As other agents do it: a temporary file, renamed.
	if err := os.WriteFile(path+".tmp", []byte(text), 0o640); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) read(path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.o.ConfDir, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (r *rig) keeper() *Keeper {
	r.t.Helper()
	k, err := New(r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	return k
}

// run keeps until the test ends.
func (r *rig) run() *Keeper {
	r.t.Helper()
	k := r.keeper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	r.t.Cleanup(func() { cancel(); running.Wait() })
	return k
}

// types are the plugins that a runtime would call, in order: those of the first
// file of the directory.
func (r *rig) types() []string {
	names, err := libcni.ConfFiles(r.o.ConfDir, []string{".conf", ".conflist", ".json"})
	if err != nil || len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	list, err := libcni.ConfListFromFile(names[0])
	if err != nil {
		return nil
	}
	var types []string
	for _, p := range list.Plugins {
		types = append(types, p.Network.Type)
	}
	return types
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	r.t.Fatalf("never: %s; the runtime would call %v", what, r.types())
}

func (r *rig) chained(before ...string) func() bool {
	return func() bool { return slices.Equal(r.types(), append(before, plugin.Type)) }
}

func TestChainAndRemoveLeaveTheFileAsItWas(t *testing.T) {
	r := newRig(t)
	r.write("10-main.conflist", conflist)
	r.write("20-other.conflist", conflist)
	r.write("README.txt", "not for runtimes")
	r.keeper().keep(time.Now())
	if !r.chained("ptp", "portmap")() {
		t.Fatalf("the runtime would call %v", r.types())
	}
	var entry map[string]any
	var list struct{ Plugins []json.RawMessage }
	if err := json.Unmarshal([]byte(r.read("10-main.conflist")), &list); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(list.Plugins[2], &entry); err != nil || entry["socket"] != plugin.DefaultSocket || entry["policy"] != plugin.DefaultPolicy {
		t.Errorf("entry %s, %v", list.Plugins[2], err)
	}
	if r.read("20-other.conflist") != conflist {
		t.Error("a file that the runtime does not use was touched")
	}
	info, err := os.Stat(filepath.Join(r.o.ConfDir, "10-main.conflist"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v, %v; it was 0640", info.Mode(), err)
	}
	if got := r.read(filepath.Join(r.o.BinDir, plugin.Type)); got != "version 1" {
		t.Errorf("binary is %q", got)
	}
	before := r.read("10-main.conflist")
	r.keeper().keep(time.Now())
	if r.read("10-main.conflist") != before {
		t.Error("keeping again changed the file")
	}
	left, err := Left(r.o.ConfDir, r.o.BinDir)
	if err != nil || len(left) != 3 {
		t.Errorf("left %q, %v", left, err)
	}
	removed, err := Remove(r.o.ConfDir, r.o.BinDir)
	if err != nil || !slices.Equal(removed, left) {
		t.Errorf("removed %q, %v", removed, err)
	}
	if got := r.read("10-main.conflist"); got != conflist {
		t.Errorf("after the removal the file is\n%s", got)
	}
	if removed, err = Remove(r.o.ConfDir, r.o.BinDir); err != nil || len(removed) != 0 {
		t.Errorf("removed again: %q, %v", removed, err)
	}
	entries, err := os.ReadDir(r.o.ConfDir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

func TestRepairs(t *testing.T) {
	r := newRig(t)
	r.write("10-main.conflist", conflist)
	k := r.run()
	r.eventually("chained", r.chained("ptp", "portmap"))
	other := strings.ReplaceAll(conflist, `"ptp"`, `"bridge"`)
	r.write("10-main.conflist", other)
	r.eventually("chained again after the file was overwritten", r.chained("bridge", "portmap"))
	r.write("05-new.conflist", conflist)
	r.eventually("chained in the file that is first now", r.chained("ptp", "portmap"))
	if err := os.Remove(filepath.Join(r.o.ConfDir, "05-new.conflist")); err != nil {
		t.Fatal(err)
	}
	r.eventually("chained in the file that is first again", r.chained("bridge", "portmap"))
	r.write(r.o.Binary, "version 2")
	if err := os.Remove(filepath.Join(r.o.BinDir, plugin.Type)); err != nil {
		t.Fatal(err)
	}
	r.eventually("binary is back, in the agent's version", func() bool { return r.read(filepath.Join(r.o.BinDir, plugin.Type)) == "version 2" })
	if _, ok := k.Since(); !ok || len(k.Problems()) != 0 {
		t.Errorf("in force: %v, problems %v", ok, k.Problems())
	}
}

func TestSinglePluginIsWrapped(t *testing.T) {
	r := newRig(t)
	r.write("10-lone.conf", singleConf)
	r.run()
	r.eventually("wrapped", r.chained("bridge"))
	if r.read("10-lone.conf") != singleConf {
		t.Error("the file was touched")
	}
	r.write("10-lone.conf", strings.Replace(singleConf, "bridge", "ptp", 1))
	r.eventually("the wrapper follows", r.chained("ptp"))
	if err := os.Remove(filepath.Join(r.o.ConfDir, "10-lone.conf")); err != nil {
		t.Fatal(err)
	}
	r.eventually("the wrapper goes with what it wraps", func() bool { return r.types() == nil })
	r.write("10-lone.conf", singleConf)
	r.eventually("wrapped again", r.chained("bridge"))
	r.write("10-a.conflist", conflist)
	r.eventually("a list is chained", r.chained("ptp", "portmap"))
	if _, err := Remove(r.o.ConfDir, r.o.BinDir); err != nil {
		t.Fatal(err)
	}
}

func TestSomebodyWhoWritesWithoutEndIsNotFought(t *testing.T) {
	r := newRig(t)
	k := r.keeper()
	start := time.Now()
	fight := func(alone bool) {
		for i := range 3 * maxRepairs {
			r.write("10-main.conflist", conflist)
			if alone { // it removes what others have
				if err := removeFile(filepath.Join(r.o.ConfDir, wrapper)); err != nil {
					t.Fatal(err)
				}
			}
			k.keep(start.Add(time.Duration(i) * time.Millisecond))
		}
		if r.read("10-main.conflist") != conflist {
			t.Error("repairs are not bounded")
		}
		start = start.Add(2 * repairWindow)
	}
	fight(false)
	if !r.chained("ptp", "portmap")() || len(k.Problems()) != 0 {
		t.Errorf("while only the file is fought for: %v, problems %v", r.types(), k.Problems())
	}
	fight(true)
	if p := k.Problems(); len(p) != 1 || p[0].Reason != "CNIRewritten" {
		t.Errorf("problems are %+v", p)
	}
	k.keep(start)
	if !r.chained("ptp", "portmap")() || len(k.Problems()) != 0 {
		t.Errorf("once that is over: %v, problems %v", r.types(), k.Problems())
	}
}

// A node starts, and its network plugin writes its file before any agent runs.
func TestChainOutlivesARewriteWithoutAgent(t *testing.T) {
	r := newRig(t)
	r.write("10-main.conflist", conflist)
	r.keeper().keep(time.Now())
	r.write("10-main.conflist", conflist)
	if !r.chained("ptp", "portmap")() {
		t.Errorf("the runtime would call %v", r.types())
	}
}

// A network plugin that tolerates no file but its own is chained in that.
func TestChainOutlivesTheRemovalOfTheCopy(t *testing.T) {
	r := newRig(t)
	r.write("10-main.conflist", conflist)
	r.keeper().keep(time.Now())
	if err := removeFile(filepath.Join(r.o.ConfDir, wrapper)); err != nil {
		t.Fatal(err)
	}
	if !r.chained("ptp", "portmap")() {
		t.Errorf("the runtime would call %v", r.types())
	}
}

func TestWhatCannotBeChainedIsAProblem(t *testing.T) {
	for name, test := range map[string]struct {
		file, text, want string
	}{
		"nothing":           {"", "", "there is no CNI configuration yet"},
		"no JSON":           {"10-a.conflist", "{", "10-a.conflist"},
		"no list":           {"10-a.conflist", singleConf, errNoList.Error()},
		"empty list":        {"10-a.conflist", `{"name":"a","plugins":[]}`, errNoPlugin.Error()},
		"only ours":         {"10-a.conflist", `{"name":"a","plugins":[{"type":"heddle-cni"}]}`, errNoPlugin.Error()},
		"two lists":         {"10-a.conflist", `{"plugins":[{"type":"a"}],"plugins":[{"type":"b"}]}`, "two lists"},
		"two values":        {"10-a.conflist", `{"plugins":[{"type":"a"}]} {}`, "more after its end"},
		"entry of no type":  {"10-a.conflist", `{"plugins":[{"name":"a"}]}`, "no type"},
		"single before all": {"00-a.conf", singleConf, "rename it"},
		"single of no name": {"10-a.conf", `{"type":"ptp"}`, "no name"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if test.file != "" {
				r.write(test.file, test.text)
			}
			k := r.keeper()
			k.keep(time.Now())
			if p := k.Problems(); len(p) != 1 || !strings.Contains(p[0].Detail, test.want) {
				t.Errorf("problems are %+v, want %q", p, test.want)
			}
			if test.file != "" && r.read(test.file) != test.text {
				t.Errorf("the file was changed to %s", r.read(test.file))
			}
			if _, ok := k.Since(); ok {
				t.Error("counts as in force")
			}
		})
	}
	r := newRig(t)
	r.write("10-a.conflist", conflist)
	if err := os.Remove(r.o.Binary); err != nil {
		t.Fatal(err)
	}
	k := r.keeper()
	if k.keep(time.Now()); len(k.Problems()) != 1 || r.read("10-a.conflist") != conflist {
		t.Error("an entry whose binary is missing would let no pod start")
	}
}

func TestOldEntryIsReplacedInPlace(t *testing.T) {
	r := newRig(t)
	r.write("10-a.conflist", `{"name":"a","plugins":[{"type":"ptp"},{"type":"heddle-cni","socket":"/old"},{"type":"last"}]}`)
	r.keeper().keep(time.Now())
	if got := r.types(); !slices.Equal(got, []string{"ptp", plugin.Type, "last"}) || strings.Contains(r.read("10-a.conflist"), "/old") {
		t.Errorf("file is %s", r.read("10-a.conflist"))
	}
}

func FuzzList(f *testing.F) {
	for _, seed := range []string{conflist, singleConf, `{"plugins":[{"type":"heddle-cni"},{"type":"b"}]}`, `{"plugins":[{"type":"a"} , {"type":"heddle-cni"}]}`} {
		f.Add([]byte(seed))
	}
	entry, err := entryOf("/s", "/p")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parse(text)
		if err != nil || l.others() == 0 {
			return
		}
		with, err := parse(l.with(entry))
		if err != nil || with.ours() < 0 || with.others() != l.others() {
			t.Fatalf("%q became %q: %v", text, with.text, err)
		}
		if l.ours() < 0 && !bytes.Equal(with.without(), text) {
			t.Fatalf("%q came back as %q", text, with.without())
		}
	})
}

// What another program writes between the look and the rename stays.
func TestReplaceLeavesWhatIsNewer(t *testing.T) {
	r := newRig(t)
	r.write("10-a.conflist", conflist)
	path := filepath.Join(r.o.ConfDir, "10-a.conflist")
	if err := replace(path, []byte("older"), []byte("{}")); err == nil || r.read("10-a.conflist") != conflist {
		t.Errorf("replaced a file of another text: %v", err)
	}
	if _, err := os.Stat(path + fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left a file behind: %v", err)
	}
}

// An agent that was killed while it wrote leaves what it had begun.
func TestRemoveTakesWhatWasBegun(t *testing.T) {
	r := newRig(t)
	begun := []string{
		filepath.Join(r.o.ConfDir, wrapper+fresh),
		filepath.Join(r.o.ConfDir, "10-network.conflist"+fresh),
		filepath.Join(r.o.BinDir, plugin.Type+fresh),
	}
	others := filepath.Join(r.o.BinDir, "other"+fresh)
	for _, path := range append(begun, others) {
		r.write(path, "{")
	}
	if left, err := Left(r.o.ConfDir, r.o.BinDir); err != nil || len(left) != len(begun) {
		t.Errorf("left are %q, error %v, want %q", left, err, begun)
	}
	if removed, err := Remove(r.o.ConfDir, r.o.BinDir); err != nil || len(removed) != len(begun) {
		t.Errorf("removed %q, error %v, want %q", removed, err, begun)
	}
	for _, path := range begun {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", path, err)
		}
	}
	if r.read(others) != "{" {
		t.Error("another's file was removed")
	}
}
