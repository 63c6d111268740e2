package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"heddle.io/heddle/install/client"
	"heddle.io/heddle/install/sandbox"
)

const (
	maxDumpFile = 8 << 20   // bytes of one file of a sysdump
	maxDump     = 512 << 20 // of all, before compression
	dumpTimeout = 10 * time.Minute
)

func (a *app) sysdumpCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "sysdump",
		Short: "Write what is needed to look into a problem to one file",
		Long: `Write what is needed to look into a problem to one file: the status of all,
what each node's kernel has, counters, logs of Heddle, and in a cluster the objects
that Heddle reads and is made of.

It holds names and addresses of pods and services, but no Secret and no ConfigMap;
environment values, commands and annotations of pods are left out, and what looks
like a token, a key or a password anywhere. What could not be had, and why, is in
its file missing.txt: a dump by somebody with few rights is a small one.

Exit code 1 when something is missing.`,
		Example: "  heddlectl sysdump\n  heddlectl sysdump -o problem.tar.gz --node worker-3",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				file = "heddle-sysdump-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), dumpTimeout)
			defer cancel()
			return a.sysdump(ctx, file)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write (default heddle-sysdump-TIME.tar.gz)")
	return cmd
}

func (a *app) sysdump(ctx context.Context, file string) error {
	t, err := a.targets(ctx)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create the dump: %w: name a new file by -o", err)
	}
	d := newDump(f, strings.TrimSuffix(filepath.Base(file), ".tar.gz"))
	a.fill(ctx, t, d)
	if err := errors.Join(d.end(), f.Close(), ctx.Err()); err != nil {
		_ = os.Remove(file)
		return fmt.Errorf("write the dump %s: %w: check the room on the disk", file, err)
	}
	fmt.Fprintf(a.out, "%s: %s\n", file, plural(d.files, "file"))
	if len(d.missing) > 0 {
		fmt.Fprintf(a.out, "%s could not be had: see missing.txt in it\n", plural(len(d.missing), "thing"))
		return &problem{exitProblem}
	}
	return nil
}

// fill puts everything that can be had into the dump.
func (a *app) fill(ctx context.Context, t *targets, d *dump) {
	d.json("heddlectl.json", version())
	report, err := a.collect(ctx, t)
	if err != nil {
		d.miss("status", err)
	} else {
		d.json("status.json", report)
		now := time.Now()
		d.text("status.txt", func(w io.Writer) {
			if report.Replicas != nil {
				renderCluster(w, report, true, now)
				return
			}
			renderStatus(w, report, now)
		})
		for _, e := range report.Errors {
			d.miss("status", errors.New(e))
		}
	}
	each(len(t.agents), func(i int) { dumpAgent(ctx, d, &t.agents[i]) })
	for i := range t.controllers {
		c := &t.controllers[i]
		name := "controller/" + c.pod
		if c.down == "" {
			text, err := c.Metrics(ctx)
			d.have(filepath.Join(name, "metrics.txt"), []byte(text), err)
		}
	}
	if t.cluster != nil {
		dumpCluster(ctx, d, t.cluster)
	}
	if t.sandbox != nil {
		dumpSandboxLogs(d, t.sandbox)
	}
}

// dumpAgent writes what one node's kernel has. An agent that does not answer is
// in the status already.
func dumpAgent(ctx context.Context, d *dump, agent *target) {
	node, err := agent.name(ctx)
	if err != nil {
		return
	}
	dir := "nodes/" + node + "/"
	text, err := agent.Metrics(ctx)
	d.have(dir+"metrics.txt", []byte(text), err)
	var gone *client.Unreachable
	if errors.As(err, &gone) {
		return
	}
	question(ctx, d, dir+"services.json", agent, (*client.Agent).Services)
	question(ctx, d, dir+"clusters.json", agent, (*client.Agent).Clusters)
	question(ctx, d, dir+"pods.json", agent, (*client.Agent).Pods)
	question(ctx, d, dir+"maps.json", agent, (*client.Agent).Maps)
}

func question[T any](ctx context.Context, d *dump, name string, agent *target, ask func(*client.Agent, context.Context) (T, error)) {
	v, err := ask(agent.Agent, ctx)
	if err != nil {
		d.miss(name, err)
		return
	}
	d.json(name, v)
}

// dumpSandboxLogs writes the logs of Heddle's processes, not those of pods.
func dumpSandboxLogs(d *dump, s *sandbox.Sandbox) {
	for _, of := range append(s.Nodes(), "controller") {
		path, err := s.Log(of)
		var text []byte
		if err == nil {
			text, err = lastBytes(path, logBytes)
		}
		d.have("logs/"+of+".log", text, err)
	}
}

func lastBytes(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	} else if _, err := f.Seek(max(size-n, 0), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, n))
}

// A dump is the archive. It may be used concurrently; a failed write is kept
// for end.
type dump struct {
	root string // directory that all files are below
	when time.Time
	zip  *gzip.Writer

	mu      sync.Mutex
	tar     *tar.Writer
	err     error
	size    int
	files   int
	missing []string
}

func newDump(w io.Writer, root string) *dump {
	zip := gzip.NewWriter(w)
	return &dump{root: root, when: time.Now(), zip: zip, tar: tar.NewWriter(zip)}
}

// have writes a file, or notes why there is none.
func (d *dump) have(name string, text []byte, err error) {
	if err != nil {
		d.miss(name, err)
		return
	}
	text = scrub(text)
	if len(text) > maxDumpFile {
		d.miss(name, fmt.Errorf("cut: it has %s", size(uint64(len(text)))))
		text = text[:maxDumpFile]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.size+len(text) > maxDump {
		d.missing = append(d.missing, name+": the dump is full")
		return
	}
	d.size += len(text)
	d.write(name, text)
}

// write needs the lock.
func (d *dump) write(name string, text []byte) {
	header := &tar.Header{Name: d.root + "/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: d.when}
	if d.err == nil {
		d.err = d.tar.WriteHeader(header)
	}
	if d.err == nil {
		_, d.err = d.tar.Write(text)
	}
	d.files++
}

func (d *dump) json(name string, v any) {
	text, err := json.MarshalIndent(v, "", " ")
	d.have(name, text, err)
}

func (d *dump) text(name string, render func(io.Writer)) {
	var out strings.Builder
	render(&out)
	d.have(name, []byte(out.String()), nil)
}

// miss notes what could not be had.
func (d *dump) miss(name string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.missing = append(d.missing, name+": "+err.Error())
}

func (d *dump) end() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.missing) > 0 {
		d.write("missing.txt", scrub([]byte(strings.Join(d.missing, "\n")+"\n")))
	}
	return errors.Join(d.err, d.tar.Close(), d.zip.Close())
}
