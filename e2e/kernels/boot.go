package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Bounds of a guest. Programs of the suite have their own, see programTimeout.
const (
	bootTimeout   = 15 * time.Minute
	guestMemory   = "1536" // MiB; binaries and temporary files are in it
	maxReportLine = 1 << 20
)

const emulator = "qemu-system-x86_64"

// qemuArguments describe the machine. The processor is emulated: no KVM, and
// QEMU 7.2 emulates cmpxchg16b wrongly, which kills the guest now and then, so
// the processor does not offer it. A kernel that stumbles ends at once.
func qemuArguments(image, initrd, console string) []string {
	return []string{
		"-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "Skylake-Client,-cx16", "-smp", "1", "-m", guestMemory,
		"-nodefaults", "-display", "none", "-nic", "none", "-no-reboot",
		"-serial", "file:" + console, "-serial", "stdio",
		"-kernel", image, "-initrd", initrd,
		"-append", "console=ttyS0 mitigations=off oops=panic panic=-1 rdinit=/init",
	}
}

// boot runs the suite on one kernel, in dir, where build put the binaries. It
// fails with everything that went wrong there.
func boot(ctx context.Context, out io.Writer, dir, deb string, tests selection, verbose bool) error {
	k, err := readKernel(ctx, deb)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n== %s\n", strings.TrimSuffix(k.name, ".deb"))
	at := filepath.Join(dir, k.release)
	image, initrd, console := at+".vmlinuz", at+".initrd", at+".console"
	if err := os.WriteFile(image, k.image, 0o600); err != nil {
		return err
	}
	if err := writeInitrd(ctx, initrd, k, dir, tests); err != nil {
		return fmt.Errorf("write the guest's file system: %w", err)
	}
	s := newSummary(out, tests, lacks(k.release))
	s.verbose = verbose
	err = runQEMU(ctx, qemuArguments(image, initrd, console), s.take)
	err = errors.Join(err, s.verdict())
	if verbose || !s.finished {
		showConsole(out, console, verbose)
	}
	return err
}

func writeInitrd(ctx context.Context, name string, k *kernel, bin string, tests selection) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = writeImage(ctx, w, k, bin, tests)
	return errors.Join(err, w.Flush(), f.Close())
}

// runQEMU runs a guest to its end and hands its records on.
func runQEMU(ctx context.Context, args []string, take func(line []byte)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("the guest did not end within %v", bootTimeout))
	defer cancel()
	// The guest must not outlive this program, however that ends. The kernel
	// watches the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, emulator, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	reports, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the emulator: %w", err)
	}
	lines := bufio.NewScanner(reports)
	lines.Buffer(nil, maxReportLine)
	for lines.Scan() {
		take(lines.Bytes())
	}
	if lines.Err() != nil {
		cancel() // nobody reads what it says
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), lines.Err())
	case err != nil:
		return fmt.Errorf("the emulator failed: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return lines.Err()
}

// showConsole shows what the kernel said, the end of it unless all is asked for.
func showConsole(out io.Writer, console string, all bool) {
	text, err := os.ReadFile(console)
	if err != nil {
		fmt.Fprintf(out, "   no console: %v\n", err)
		return
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(text), "\r", "")), "\n")
	const most = 40
	if !all && len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	fmt.Fprintf(out, "   the kernel's console:\n      %s\n", strings.Join(lines, "\n      "))
}
