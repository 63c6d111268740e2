package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const web = "web [10.96.0.1]"

func TestFilesComeChangeAndGo(t *testing.T) {
	d := follow(t)
	d.until("")
	d.write("a.yaml", service("web", "10.96.0.1", 80))
	d.until(web)
	d.write("b.yml", "# nothing\n---\n"+pod("p1", "10.0.0.1")+"---\n"+pod("p2", "10.0.0.2"))
	d.until("p1 [10.0.0.1], p2 [10.0.0.2], " + web)
	d.write("c.json", `{"apiVersion":"v1","kind":"List","items":[`+"\n\t"+`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}]}`)
	d.until("p1 [10.0.0.1], p2 [10.0.0.2], shop, " + web)
	d.write("b.yml", pod("p2", "10.0.0.3"))
	d.until("p2 [10.0.0.3], shop, " + web)
	d.remove("c.json")
	d.until("p2 [10.0.0.3], " + web)
	d.write("b.yml", "")
	d.until(web)
	// Not files of objects.
	d.write("notes.txt", "web")
	check(t, os.Mkdir(filepath.Join(d.path, "more"), 0o755))
	check(t, os.WriteFile(filepath.Join(d.path, ".hidden.yaml"), []byte(pod("p9", "10.0.0.9")), 0o644))
	d.steady(web)
}

func TestAnUnchangedObjectIsTheSamePointer(t *testing.T) {
	d := follow(t)
	d.write("a.yaml", pod("p1", "10.0.0.1")+"---\n"+pod("p2", "10.0.0.2"))
	d.until("p1 [10.0.0.1], p2 [10.0.0.2]")
	before := d.last.Snapshot
	d.write("a.yaml", pod("p1", "10.0.0.1")+"---\n"+pod("p2", "10.0.0.3"))
	d.until("p1 [10.0.0.1], p2 [10.0.0.3]")
	for k, p := range before.Pods {
		if same := d.last.Snapshot.Pods[k] == p; same != (k.Name == "p1") {
			t.Errorf("%s is the same object: %v", k, same)
		}
	}
}

// TestLastGoodStays: whatever becomes of a file, what was in force stays, and a
// controller that starts again still has it.
func TestLastGoodStays(t *testing.T) {
	good := service("web", "10.96.0.1", 80)
	for name, c := range map[string]struct{ text, state, says string }{
		"cut off":           {good[:len(good)-8], web + ", FileMalformed file a.yaml", "document 1 (line 1)"},
		"not YAML":          {"a: b: c\n", web + ", FileMalformed file a.yaml", "document 1 (line 1)"},
		"binary":            {"\x00\xff\xfe", web + ", FileMalformed file a.yaml", "document 1 (line 1)"},
		"no object":         {"- a\n- b\n", web + ", FileMalformed file a.yaml", "not a Kubernetes object"},
		"no name":           {"{apiVersion: v1, kind: Service, metadata: {namespace: shop}}", web + ", FileMalformed file a.yaml", "without metadata.name"},
		"bad second object": {good + "---\n\na:\n\tb\n", web + ", FileMalformed file a.yaml", "document 2 (line 3): yaml: line 5"},
		"bad address":       {strings.Replace(good, "10.96.0.1", "10.96.0.257", 1), web + ", Invalid Service shop/web", "spec.clusterIPs[0]: 10.96.0.257 is not an IP address; its last good version stays in force"},
		"unknown field":     {strings.Replace(good, "ports:", "portz: [], ports:", 1), web + ", Invalid Service shop/web", `unknown field "spec.portz"`},
		"twice the same key": {strings.Replace(good, "kind: Service,", "kind: Service, kind: Service,", 1),
			web + ", FileMalformed file a.yaml", `key "kind" already set`},
		"too large": {strings.Replace(good, "name: web,", "name: web, annotations: {a: "+strings.Repeat("a", maxObjectSize)+"},", 1),
			web + ", ObjectTooLarge Service shop/web", "the limit is 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			d := follow(t)
			d.write("a.yaml", good)
			d.until(web)
			d.write("a.yaml", c.text)
			d.until(c.state)
			if detail := d.detail(); !strings.Contains(detail, c.says) || strings.Contains(detail, "left out") {
				t.Errorf("detail %q, it should say %q", detail, c.says)
			}
			d.restart()
			d.until(c.state)
			d.write("a.yaml", strings.Replace(good, "10.96.0.1", "10.96.0.2", 1))
			d.until("web [10.96.0.2]")
		})
	}
}

func TestOneBadObjectDoesNotHinderOthers(t *testing.T) {
	d := follow(t)
	d.write("a.yaml", pod("p1", "nowhere")+"---\n"+pod("p2", "10.0.0.2")+"---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}}\n---\n"+pod("BAD", "10.0.0.3"))
	d.until("p2 [10.0.0.2], UnknownKind Deployment x, Invalid Pod shop/BAD, Invalid Pod shop/p1")
	for _, p := range d.last.Problems {
		if !strings.Contains(p.Detail, "file a.yaml, document ") || !strings.Contains(p.Detail, "it is left out") {
			t.Errorf("%s: %q does not say where, or what becomes of it", p.Object, p.Detail)
		}
	}
}

func TestRestartRemembersWhatIsBadNow(t *testing.T) {
	d := follow(t)
	d.write("a.yaml", service("web", "10.96.0.1", 80)+"---\n"+route("canary", 10))
	d.until("canary 10, " + web)
	d.stop() // while it is away, the file breaks
	d.write("a.yaml", service("web", "10.96.0.1", 80)+"---\n"+route("canary", -1))
	d.start()
	d.until("canary 10, " + web + ", Invalid TCPRoute shop/canary")

	entries, err := os.ReadDir(d.kept)
	check(t, err)
	if len(entries) != 1 {
		t.Fatalf("%d files of state, want one for each source file", len(entries))
	}
	kept := filepath.Join(d.kept, entries[0].Name())
	info, err := os.Stat(kept)
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("state has mode %v, want 0600", info.Mode())
	}

	d.stop() // state that a disk spoiled is not used
	text, err := os.ReadFile(kept)
	check(t, err)
	check(t, os.WriteFile(kept, append(text[:len(text)-2], ' ', '}'), 0o600))
	d.start()
	d.until(web + ", Invalid TCPRoute shop/canary")
}

func TestStateOfAFileThatIsGoneIsRemoved(t *testing.T) {
	d := follow(t)
	d.write("a.yaml", pod("p1", "10.0.0.1"))
	d.until("p1 [10.0.0.1]")
	d.remove("a.yaml")
	d.until("")
	d.stop()
	if entries, err := os.ReadDir(d.kept); err != nil || len(entries) > 0 {
		t.Errorf("state %v, %v; want none", entries, err)
	}
}

// TestStateDirectoryUnusable: objects are served all the same.
func TestStateDirectoryUnusable(t *testing.T) {
	d := follow(t)
	d.stop()
	d.kept = filepath.Join(d.path, "file")
	check(t, os.WriteFile(d.kept, nil, 0o600))
	d.start()
	d.write("a.yaml", pod("p1", "10.0.0.1"))
	d.until("p1 [10.0.0.1], StateUnavailable directory " + d.path)
}

func TestDirectoryVanishesAndReturns(t *testing.T) {
	for name, vanish := range map[string]func(string) error{
		"renamed": func(path string) error { return os.Rename(path, path+".away") },
		"deleted": os.RemoveAll,
	} {
		t.Run(name, func(t *testing.T) {
			d := follow(t)
			d.write("a.yaml", service("web", "10.96.0.1", 80))
			for i := range 50 { // deleting them takes a while
				d.write(fmt.Sprintf("n%d.yaml", i), "# nothing")
			}
			d.write("n.yaml", pod("p1", "10.0.0.1"))
			d.until("p1 [10.0.0.1], " + web)
			check(t, vanish(d.path))
			d.until("p1 [10.0.0.1], " + web + ", SourceUnavailable directory")
			d.steady("p1 [10.0.0.1], " + web + ", SourceUnavailable directory")
			d.restart()
			d.until("p1 [10.0.0.1], " + web + ", SourceUnavailable directory")
			check(t, os.Mkdir(d.path, 0o755))
			d.write("b.yaml", pod("p2", "10.0.0.1"))
			d.until("p2 [10.0.0.1]")
			if d.last.Err != nil {
				t.Errorf("still: %v", d.last.Err)
			}
			d.write("b.yaml", pod("p2", "10.0.0.2")) // and it is watched again
			d.until("p2 [10.0.0.2]")
		})
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); {
		if time.Since(start) > patience {
			t.Fatal("it did not happen")
		}
	}
}

// next takes the next update, if there is one soon.
func (d *directory) next() {
	wait := time.NewTimer(10 * time.Millisecond)
	defer wait.Stop()
	select {
	case d.last = <-d.updates:
	case <-wait.C:
	}
}

// TestNothingIsKnown: a directory that was never read is not an empty one.
func TestNothingIsKnown(t *testing.T) {
	d := follow(t)
	d.stop()
	check(t, os.RemoveAll(d.path))
	d.start()
	d.until("nothing known, SourceUnavailable directory")
	check(t, os.Mkdir(d.path, 0o755))
	d.until("")
	if d.last.Snapshot == nil {
		t.Error("an empty directory has a snapshot")
	}
}

// TestConfigMap: files are links through a link that is swapped.
func TestConfigMap(t *testing.T) {
	d := follow(t)
	version := func(n, text string) {
		dir := filepath.Join(d.path, "..version"+n)
		check(t, os.Mkdir(dir, 0o755))
		check(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o644))
		link := filepath.Join(d.path, "..data")
		check(t, os.Symlink("..version"+n, link+"_tmp"))
		check(t, os.Rename(link+"_tmp", link))
	}
	version("1", pod("p1", "10.0.0.1"))
	check(t, os.Symlink("..data/a.yaml", filepath.Join(d.path, "a.yaml")))
	d.until("p1 [10.0.0.1]")
	version("2", pod("p1", "10.0.0.2"))
	d.until("p1 [10.0.0.2]")
	check(t, os.Remove(filepath.Join(d.path, "..data")))
	d.until("p1 [10.0.0.2], FileUnreadable file a.yaml")
	version("3", pod("p1", "10.0.0.3"))
	d.until("p1 [10.0.0.3]")
}

// TestChangeBehindALink is announced by nobody: a rescan finds it.
func TestChangeBehindALink(t *testing.T) {
	d := follow(t)
	elsewhere := filepath.Join(t.TempDir(), "real")
	check(t, os.WriteFile(elsewhere, []byte(pod("p1", "10.0.0.1")), 0o644))
	check(t, os.Symlink(elsewhere, filepath.Join(d.path, "a.yaml")))
	d.until("p1 [10.0.0.1]")
	check(t, os.WriteFile(elsewhere, []byte(pod("p1", "10.0.0.2")), 0o644))
	d.until("p1 [10.0.0.2]")
}

// TestDirectoryIsALinkThatIsSwapped: the watch moves to where the path leads.
func TestDirectoryIsALinkThatIsSwapped(t *testing.T) {
	d := follow(t)
	d.stop()
	check(t, os.Remove(d.path))
	for _, n := range []string{"1", "2"} {
		dir := d.path + n
		check(t, os.Mkdir(dir, 0o755))
		check(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(pod("p1", "10.0.0."+n)), 0o644))
	}
	check(t, os.Symlink(d.path+"1", d.path))
	d.start()
	d.until("p1 [10.0.0.1]")
	check(t, os.Symlink(d.path+"2", d.path+".tmp"))
	check(t, os.Rename(d.path+".tmp", d.path))
	d.until("p1 [10.0.0.2]")
	d.write("a.yaml", pod("p1", "10.0.0.3"))
	d.until("p1 [10.0.0.3]")
}

// TestThingsThatAreNoFiles: none of them is waited for.
func TestThingsThatAreNoFiles(t *testing.T) {
	d := follow(t)
	d.until("")
	check(t, syscall.Mkfifo(filepath.Join(d.path, "fifo.yaml"), 0o644))
	check(t, os.Mkdir(filepath.Join(d.path, "dir.yaml"), 0o755))
	check(t, os.Symlink("/dev/zero", filepath.Join(d.path, "device.yaml")))
	check(t, os.Symlink("nowhere", filepath.Join(d.path, "dangling.yaml")))
	check(t, os.Symlink("loop.yaml", filepath.Join(d.path, "loop.yaml")))
	huge := filepath.Join(d.path, "huge.yaml")
	check(t, os.WriteFile(huge, nil, 0o644))
	check(t, os.Truncate(huge, maxFileSize+1))
	d.write("a.yaml", pod("p1", "10.0.0.1"))
	d.until("p1 [10.0.0.1], FileUnreadable file dangling.yaml, FileUnreadable file device.yaml, FileUnreadable file dir.yaml, FileUnreadable file fifo.yaml, FileUnreadable file huge.yaml, FileUnreadable file loop.yaml")
}

// TestWriteInPlace: what is there while a writer has not finished is not taken
// for what it means.
func TestWriteInPlace(t *testing.T) {
	d := follow(t)
	d.write("a.yaml", pod("p1", "10.0.0.1")+"---\n"+pod("p2", "10.0.0.2"))
	d.until("p1 [10.0.0.1], p2 [10.0.0.2]")
	f, err := os.OpenFile(filepath.Join(d.path, "a.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	check(t, err)
	d.steady("p1 [10.0.0.1], p2 [10.0.0.2]") // as after "program > a.yaml"
	_, err = f.WriteString(pod("p1", "10.0.0.3") + "---\n")
	check(t, err)
	d.steady("p1 [10.0.0.1], p2 [10.0.0.2]")
	_, err = f.WriteString(pod("p2", "10.0.0.4"))
	check(t, err)
	check(t, f.Close())
	d.until("p1 [10.0.0.3], p2 [10.0.0.4]")
}

// TestMoves: an object that moves to another file, and a file that gets another
// name, are never away in between.
func TestMoves(t *testing.T) {
	d := follow(t)
	d.write("a.yaml", pod("p1", "10.0.0.1"))
	d.until("p1 [10.0.0.1]")
	check(t, os.Rename(filepath.Join(d.path, "a.yaml"), filepath.Join(d.path, "b.yaml")))
	waitFor(t, func() bool {
		if !strings.HasPrefix(d.state(), "p1 [10.0.0.1]") {
			t.Fatalf("away: %s", d.state())
		}
		d.next()
		return d.state() == "p1 [10.0.0.1]" && d.remembered() == "b.yaml"
	})
}

// remembered returns the file of which objects are remembered.
func (d *directory) remembered() string {
	kept, err := newStore(d.kept).load()
	check(d.t, err)
	for name := range kept {
		return name
	}
	return ""
}

func TestManyProblemsAreCut(t *testing.T) {
	d := follow(t)
	var text strings.Builder
	for i := range maxProblems + 50 {
		text.WriteString("---\n" + pod(fmt.Sprintf("p%d", i), "nowhere"))
	}
	d.write("a.yaml", text.String())
	waitFor(t, func() bool { d.next(); return len(d.last.Problems) == maxProblems })
	if last := d.last.Problems[maxProblems-1]; last.Reason != "TooManyProblems" || !strings.HasPrefix(last.Detail, "51 more") {
		t.Errorf("the last problem is %v", last)
	}
}

func TestTooManyFiles(t *testing.T) {
	d := follow(t)
	d.write("a.yaml", pod("p1", "10.0.0.1"))
	d.until("p1 [10.0.0.1]")
	d.stop()
	for i := range maxFiles {
		check(t, os.WriteFile(filepath.Join(d.path, fmt.Sprintf("f%d.yaml", i)), nil, 0o644))
	}
	d.start()
	d.until("p1 [10.0.0.1], SourceUnavailable directory")
	d.remove("f0.yaml")
	d.until("p1 [10.0.0.1]")
}

// TestProblemsAreFitForATerminal: parts of them are what somebody wrote.
func TestProblemsAreFitForATerminal(t *testing.T) {
	d := follow(t)
	d.write("a.yaml", `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"\u001b[31m": 1, "type": "\u001b[2J\u202e", "ports": [{"port": 0}]}}`)
	d.write("b.yaml", `{"apiVersion": "v1", "kind": "\u001b[31m", "metadata": {"name": "\u0007`+strings.Repeat("x", 5000)+`"}}`)
	d.write("c\x1b[31m.yaml", "- \x1b[31m")
	waitFor(t, func() bool { d.next(); return len(d.last.Problems) == 3 })
	for _, p := range d.last.Problems {
		for _, text := range []string{p.Object, p.Reason, p.Detail} {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x202e }) || len(text) > maxDetail+10 {
				t.Errorf("%.200q", text)
			}
		}
	}
}
