package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// programTimeout ends a test binary that hangs, with the stacks of its
// goroutines.
const programTimeout = 8 * time.Minute

// runProgram runs one test binary in the guest and reports all it says. off are
// the mechanisms that this kernel does not have.
func (r *reporter) runProgram(p program, only string, off []string) {
	began := time.Now()
	r.send(record{Kind: started, Package: p.Package})
	err := r.stream(p, p.arguments(only, off))
	end := record{Kind: ended, Package: p.Package, Seconds: time.Since(began).Seconds(), LeftOut: p.leftOut(off)}
	if err != nil {
		end.Text = err.Error()
	}
	r.send(end)
}

// stream sends a program's output line by line while it runs.
func (r *reporter) stream(p program, args []string) error {
	cmd := exec.Command(filepath.Join(binDir, p.binary()), args...)
	cmd.Dir = filepath.Join(packageDir, p.Package)
	// Tests make system calls themselves, and a slow connect would be interrupted
	// by the signals with which the Go runtime preempts.
	cmd.Env = []string{"PATH=" + binDir, "HOME=/tmp", "TMPDIR=/tmp", "GODEBUG=asyncpreemptoff=1"}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		in.Close()
		return err
	}
	in.Close()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		r.send(record{Kind: line, Package: p.Package, Text: lines.Text()})
	}
	return errors.Join(lines.Err(), cmd.Wait())
}
