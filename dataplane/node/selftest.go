package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/attach"
	"heddle.io/heddle/dataplane/disk"
	"heddle.io/heddle/dataplane/netns"
	"heddle.io/heddle/dataplane/semantics"
)

// verdict is what a self-test found, kept for agents that start later on the
// same boot of the same kernel with the same programs.
type verdict struct {
	Subject string `json:"subject"`           // what was tested
	Noticed string `json:"noticed,omitempty"` // what differed; empty: nothing
}

// selfTest tries the fast path as an application would: the short form of the
// semantics table in throwaway namespaces, over plain TCP and over the fast
// path. It returns the rows that differ. It runs once per boot: what a kernel
// does with a program does not change.
func (n *Node) selfTest(trial *attach.Trial) (noticed string, err error) {
	subject := n.subject()
	file := filepath.Join(n.c.StateDir, selfTestFile)
	if v, ok := readVerdict(file, subject); ok {
		n.c.Log.Info("fast path was tested earlier in this boot", "noticed", v.Noticed)
		return v.Noticed, nil
	}
	n.c.Log.Info("testing the fast path in throwaway namespaces", "at most", selfTestTimeout)
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), selfTestTimeout)
	defer cancel()
	differing, err := inTime(ctx, func() ([]string, error) { return tryFastPath(ctx, trial) })
	if err != nil {
		return "", err // says nothing about the kernel: the next agent tries again
	}
	v := verdict{Subject: subject, Noticed: strings.Join(differing, "; ")}
	n.c.Log.Info("fast path is tested", "took", time.Since(start), "noticed", v.Noticed)
	text, err := json.Marshal(v)
	if err == nil {
		err = disk.Write(file, text)
	}
	if err != nil {
		n.c.Log.Warn("result of the self-test cannot be kept, the next start repeats it", "error", err)
	}
	return v.Noticed, nil
}

// inTime gives up on what does not end with ctx and a little later: an agent that
// does not come up is worse than one without the fast path.
func inTime(ctx context.Context, try func() ([]string, error)) ([]string, error) {
	type outcome struct {
		differing []string
		err       error
	}
	done := make(chan outcome, 1)
	go func() {
		differing, err := try()
		done <- outcome{differing, err}
	}()
	select {
	case o := <-done:
		return o.differing, o.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(selfTestGrace)
	defer grace.Stop()
	select {
	case o := <-done:
		return o.differing, o.err
	case <-grace.C:
	}
	return nil, fmt.Errorf("the self-test hangs: %w", ctx.Err())
}

// subject names what a verdict is about.
func (n *Node) subject() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = []byte(time.Now().String()) // then no verdict fits
	}
	return strings.Join([]string{n.release, strings.TrimSpace(string(boot)), bpf.Digest(), n.c.TC}, " ")
}

func readVerdict(file, subject string) (v verdict, ok bool) {
	text, err := disk.Read(file, maxVerdict)
	if err != nil || json.Unmarshal(text, &v) != nil {
		return verdict{}, false
	}
	return v, v.Subject == subject
}

// tryFastPath returns the rows that differ.
func tryFastPath(ctx context.Context, trial *attach.Trial) (differing []string, err error) {
	plain, err := semantics.NewWorld()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	fast, err := semantics.NewWorld()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fast.Close()) }()
	err = netns.Do(fast.Node, func() error {
		for _, p := range fast.Pods {
			if err := trial.Guard(p.Host, p.Addresses()...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, v6 := range []bool{false, true} {
		if v6 && !fast.Pods[0].IPv6.IsValid() {
			continue
		}
		run := func(w *semantics.World) func([]semantics.Row) []semantics.Outcome {
			return func(rows []semantics.Row) []semantics.Outcome { return semantics.Run(ctx, w.Ends(v6), rows) }
		}
		_, _, differences := semantics.Compare(semantics.Short(), run(plain), run(fast))
		for _, d := range differences {
			differing = append(differing, fmt.Sprintf("row %q: plain TCP: %s; fast path: %s", d.Row, d.Plain, d.Other))
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("the self-test did not end within %v: %w", selfTestTimeout, err)
	}
	return differing, moved(trial)
}

// moved makes sure that the rows did not pass beside what they were to test.
func moved(trial *attach.Trial) error {
	total, err := trial.Moved()
	if err == nil && total == 0 {
		err = errors.New("no connection of the self-test took the fast path")
	}
	return err
}

// kernelRelease is what uname -r prints.
func kernelRelease() (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", fmt.Errorf("reading the kernel's version: %w", err)
	}
	return unix.ByteSliceToString(uts.Release[:]), nil
}
