package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/install/client"
)

// agentTimeout bounds the time from starting heddled to its answer. Loading all
// programs takes an emulated processor seconds.
const agentTimeout = 2 * time.Minute

// startAgent runs the real agent until it says what it found: it brings all
// programs and maps, in their full size, into force at a cgroup of its own.
// Nothing of it is left for the tests to meet. Its state is kept: the next one
// has to notice itself that the kernel now has more.
func startAgent() (*admin.AgentStatus, error) {
	const dir = "/run/heddled"
	const cgroup = "/sys/fs/cgroup/heddled"
	pins, socket := filepath.Join(dir, "pins"), filepath.Join(dir, "agent.sock")
	for _, d := range []string{pins, cgroup} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	defer os.Remove(cgroup)
	// Unmounting releases everything that is pinned.
	if err := unix.Mount("bpf", pins, "bpf", 0, "mode=0700"); err != nil {
		return nil, fmt.Errorf("mount a bpffs for the agent: %w", err)
	}
	defer unix.Unmount(pins, unix.MNT_DETACH)

	ctx, cancel := context.WithTimeout(context.Background(), agentTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binDir, "heddled"), "agent", "--node=guest",
		"--server=unix://"+dir+"/nobody.sock", "--state-dir="+dir+"/state",
		"--cgroup="+cgroup, "--pins="+pins, "--admin=unix://"+socket)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start heddled: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	status, err := askAgent(ctx, client.NewAgent(socket), ended)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%w; it said:\n%s", err, said.Bytes())
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		return nil, fmt.Errorf("heddled did not end well: %w; it said:\n%s", err, said.Bytes())
	}
	return status, nil
}

// askAgent asks until there is an answer, or nobody left to give one.
func askAgent(ctx context.Context, agent *client.Agent, ended chan error) (*admin.AgentStatus, error) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		status, err := agent.Status(ctx)
		if err == nil {
			return status, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("heddled gave no answer within %v: %w", agentTimeout, err)
		case failed := <-ended:
			return nil, errors.Join(errors.New("heddled ended"), failed)
		case <-again.C:
		}
	}
}
