// Command kernels runs Heddle's kernel tests on kernels other than this
// machine's: it boots Debian's packages under QEMU, which needs neither KVM nor
// root, and says for each kernel which mechanisms are on and off, and why.
//
//	host   package ─► image, modules ┐
//	       tests, heddled, tools     ├► initramfs ─► qemu ─► summary, exit code
//	       this program, as /init    ┘                 ▲
//	guest  /init: file systems, modules, heddled, tests ┘ records, second serial port
//
// The program is its own /init, so host and guest are one static binary:
//
//	CGO_ENABLED=0 go build -o .build/kernels/run ./e2e/kernels
//	.build/kernels/run .build/kernels        # linux-image-*.deb there; make test-kernels
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	if os.Getpid() == 1 {
		guest()
		return
	}
	verbose := flag.Bool("v", false, "show everything that the tests and the kernel print")
	full := flag.Bool("full", false, "run everything, not only what every change has to pass")
	only := flag.String("run", "", "pass on to the tests: of everything, run only those that match")
	kernel := flag.String("kernel", "", "boot only the kernel of this series, such as 6.1")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: kernels [flags] DIRECTORY\nThe directory holds packages linux-image-VERSION-cloud-amd64; run it from the root of the repository.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	tests := essential()
	if *full || *only != "" {
		tests = everything(*only)
	}
	if err := run(ctx, os.Stdout, flag.Arg(0), *kernel, tests, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		stop()
		os.Exit(1)
	}
}

// run boots each kernel that has a package in debs, or the one that is named. It
// fails when a test does, and when nothing was tested.
func run(ctx context.Context, out io.Writer, debs, kernel string, tests selection, verbose bool) error {
	packages, err := findPackages(out, debs, kernel)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(emulator); err != nil {
		return fmt.Errorf("%w: make test-kernels installs it", err)
	}
	dir, err := os.MkdirTemp("", "heddle-kernels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := build(ctx, dir, tests.programs); err != nil {
		return err
	}
	return bootAll(ctx, out, packages, func(ctx context.Context, out io.Writer, deb string) error {
		return boot(ctx, out, dir, deb, tests, verbose)
	})
}

// findPackages returns a package of each series that debs has one of, or only
// that of the named series.
func findPackages(out io.Writer, debs, only string) ([]string, error) {
	var packages []string
	for _, s := range series {
		if only != "" && only != s.version {
			continue
		}
		found, err := filepath.Glob(filepath.Join(debs, "linux-image-"+s.version+".*.deb"))
		if err != nil {
			return nil, err
		}
		switch len(found) {
		case 0:
			fmt.Fprintf(out, "Linux %s is left out: %s has no package of it\n", s.version, debs)
		case 1:
			packages = append(packages, found[0])
		default:
			return nil, fmt.Errorf("%d packages of Linux %s: remove all but one of %s", len(found), s.version, strings.Join(found, ", "))
		}
	}
	if packages == nil {
		return nil, fmt.Errorf("no kernel to boot: %s has no package linux-image-%s*: make test-kernels downloads those of 6.1 and 6.12", debs, only)
	}
	return packages, nil
}

// bootAll runs as many guests at a time as there are processors, less one: a
// guest keeps one busy, and tests in it that measure time expect to have it.
// What a guest prints stays together.
func bootAll(ctx context.Context, out io.Writer, packages []string, boot func(context.Context, io.Writer, string) error) error {
	type result struct {
		said    bytes.Buffer
		err     error
		seconds float64
		done    chan struct{}
	}
	results := make([]result, len(packages))
	slots := make(chan struct{}, max(1, runtime.NumCPU()-1))
	for i := range results {
		r := &results[i]
		r.done = make(chan struct{})
		go func() {
			defer close(r.done)
			slots <- struct{}{}
			defer func() { <-slots }()
			began := time.Now()
			r.err = boot(ctx, &r.said, packages[i])
			r.seconds = time.Since(began).Seconds()
		}()
	}
	failed := 0
	for i := range results {
		r := &results[i]
		<-r.done
		_, _ = r.said.WriteTo(out)
		verdict := "passed"
		if r.err != nil {
			failed++
			verdict = "FAILED: " + strings.ReplaceAll(r.err.Error(), "\n", "\n   ")
		}
		fmt.Fprintf(out, "   %.0f s, %s\n", r.seconds, verdict)
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case failed > 0:
		return fmt.Errorf("%d of %d kernels failed", failed, len(results))
	}
	return nil
}
