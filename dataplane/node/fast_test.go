package node

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/disk"
)

// fastPath is what a fresh agent says of the fast path.
func (r *rig) fastPath() (f api.Feature) {
	r.t.Helper()
	a := r.start()
	defer a.end()
	for _, f := range a.Status().Features {
		if f.Name == "fast_path" {
			return f
		}
	}
	r.t.Fatal("the agent has no feature fast_path")
	return f
}

// tried gives the next agent the verdict that the fast path is good here, as
// from an earlier agent: to try it takes an emulated processor ten seconds.
func (r *rig) tried() {
	r.t.Helper()
	if r.try {
		return
	}
	n := &Node{c: r.config}
	var err error
	if n.release, err = kernelRelease(); err != nil {
		r.t.Fatal(err)
	}
	text, err := json.Marshal(verdict{Subject: n.subject()})
	if err == nil {
		err = os.MkdirAll(r.config.StateDir, 0o700)
	}
	if err == nil {
		err = disk.Write(filepath.Join(r.config.StateDir, selfTestFile), text)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// The fast path is tried once per boot; agents that follow believe what was
// found, as long as it is about the same kernel and programs.
func TestSelfTest(t *testing.T) {
	r := newRig(t)
	r.try = true
	file := filepath.Join(r.config.StateDir, selfTestFile)
	if f := r.fastPath(); !f.On {
		t.Fatalf("the self-test fails here: %s", f.Reason)
	}
	var v verdict
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &v) != nil {
		t.Fatalf("verdict %q, %v", text, err)
	}
	write := func(v verdict) {
		text, err := json.Marshal(v)
		if err == nil {
			err = disk.Write(file, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	v.Noticed = "row x"
	write(v)
	if f := r.fastPath(); f.On || !strings.Contains(f.Reason, "row x") {
		t.Errorf("after a failed test: %+v", f)
	}
	v.Subject = "another kernel"
	write(v)
	if f := r.fastPath(); !f.On {
		t.Errorf("a verdict about another kernel counted: %+v", f)
	}
	r.config.FastPath = "off"
	if f := r.fastPath(); f.On || !strings.Contains(f.Reason, "--fast-path=off") {
		t.Errorf("switched off: %+v", f)
	}
}

// A pod whose packets somebody shapes stays on the stack, from the start and
// also when that begins while it talks.
func TestShapedPodIsSlow(t *testing.T) {
	r := newRig(t)
	client, server := r.pod("client", "10.0.0.1", true), r.pod("server", "10.0.0.2", true)
	shape := func(host string) {
		l, err := netlink.LinkByName(host)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       1 << 27, Limit: 1 << 20, Buffer: 1 << 20,
		}); err != nil {
			t.Fatal(err)
		}
	}
	shape(server.host)
	a := r.start()
	client.announce()
	server.announce()
	slow := func() map[string]string {
		out := map[string]string{}
		for _, p := range a.Pods() {
			out[p.Name] = p.FastPathOff
		}
		return out
	}
	r.eventually("the pods are programmed", func() bool {
		pods := a.Pods()
		return len(pods) == 2 && pods[0].Enrolled && pods[1].Enrolled
	})
	if s := slow(); s["client"] != "" || !strings.Contains(s["server"], "tbf") {
		t.Errorf("slow: %q", s)
	}
	shape(client.host)
	// The regular check finds it.
	r.within(4*checkEvery, "the client is looked at again", func() bool { return strings.Contains(slow()["client"], "tbf") })
}

// A self-test that hangs does not keep the agent from coming up.
func TestSelfTestThatHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	hangs := make(chan struct{})
	defer close(hangs)
	_, err := inTime(ctx, func() ([]string, error) { <-hangs; return nil, nil })
	if err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("got %v", err)
	}
	differing, err := inTime(ctx, func() ([]string, error) { return []string{"row"}, nil })
	if err != nil || len(differing) != 1 {
		t.Errorf("got %v, %v", differing, err)
	}
}
