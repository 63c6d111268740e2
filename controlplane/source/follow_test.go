package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen. It is long because the
// machine may be busy; nothing waits that long when all is well.
const patience = time.Minute

// directory is a source in a test, with its directories.
type directory struct {
	t          *testing.T
	path, kept string
	last       Update
	updates    <-chan Update
	stop       func()
}

// follow starts a source of an empty directory.
func follow(t *testing.T) *directory {
	t.Parallel() // most of the time is waiting
	t.Helper()
	d := &directory{t: t, path: filepath.Join(t.TempDir(), "objects"), kept: filepath.Join(t.TempDir(), "state")}
	if err := os.Mkdir(d.path, 0o755); err != nil {
		t.Fatal(err)
	}
	d.start()
	t.Cleanup(func() { d.stop() })
	return d
}

func (d *directory) start() {
	source := New(Options{Path: d.path, StateDir: d.kept, Rescan: 300 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); source.Run(ctx) }()
	d.updates = source.Updates()
	d.last = Update{}
	d.stop = func() { cancel(); <-done }
}

// restart is a controller that stops and starts again.
func (d *directory) restart() {
	d.stop()
	d.start()
}

// write replaces a file atomically.
func (d *directory) write(name, text string) {
	d.t.Helper()
	temporary := filepath.Join(d.path, "."+name+".tmp")
	check(d.t, os.WriteFile(temporary, []byte(text), 0o644))
	check(d.t, os.Rename(temporary, filepath.Join(d.path, name)))
}

func (d *directory) remove(name string) {
	d.t.Helper()
	check(d.t, os.Remove(filepath.Join(d.path, name)))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for an update of which state is as wanted.
func (d *directory) until(want string) {
	d.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for d.state() != want {
		select {
		case d.last = <-d.updates:
		case <-timeout.C:
			d.t.Fatalf("the state is\n  %s\nand not\n  %s", d.state(), want)
		}
	}
}

// steady checks that the state stays what it is, for longer than anything that
// is held back takes.
func (d *directory) steady(want string) {
	d.t.Helper()
	timeout := time.NewTimer(400 * time.Millisecond)
	defer timeout.Stop()
	for {
		if got := d.state(); got != want {
			d.t.Fatalf("the state is\n  %s\nand not\n  %s", got, want)
		}
		select {
		case d.last = <-d.updates:
		case <-timeout.C:
			return
		}
	}
}

// state is what the last update holds, on one line: pods and Services with their
// addresses, the other objects by name, then problems as "Reason object".
func (d *directory) state() string {
	s := d.last.Snapshot
	if s == nil {
		return strings.Join(append([]string{"nothing known"}, problems(d.last)...), ", ")
	}
	var out []string
	for k, p := range s.Pods {
		out = append(out, fmt.Sprintf("%s %v", k.Name, p.Addresses))
	}
	for k, v := range s.Services {
		out = append(out, fmt.Sprintf("%s %v", k.Name, v.Addresses))
	}
	for name := range s.Namespaces {
		out = append(out, name)
	}
	for k, r := range s.Routes {
		out = append(out, fmt.Sprintf("%s %d", k.Name, r.Backends[0].Weight))
	}
	slices.Sort(out)
	return strings.Join(append(out, problems(d.last)...), ", ")
}

func problems(u Update) []string {
	var out []string
	for _, p := range u.Problems {
		object := p.Object
		if p.Reason == "SourceUnavailable" {
			object = "directory"
		}
		out = append(out, p.Reason+" "+object)
	}
	return out
}

func pod(name, ip string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: shop}, spec: {containers: []}, status: {podIP: %s}}\n", name, ip)
}

func service(name, ip string, port int) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: shop}, spec: {clusterIP: %s, ports: [{port: %d}]}}\n", name, ip, port)
}

func route(name string, weight int) string {
	return fmt.Sprintf("{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {name: %s, namespace: shop}, spec: {parentRefs: [{group: \"\", kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80, weight: %d}]}]}}\n", name, weight)
}

// detail returns the only problem's detail.
func (d *directory) detail() string {
	d.t.Helper()
	if len(d.last.Problems) != 1 {
		d.t.Fatalf("%d problems: %v", len(d.last.Problems), d.last.Problems)
	}
	return d.last.Problems[0].Detail
}
