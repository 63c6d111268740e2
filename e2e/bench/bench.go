package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/e2e/bench/load"
)

// cleanLimit bounds the removal of each world.
const cleanLimit = 30 * time.Second

// bench is a whole run.
func bench(ctx context.Context, o *Options, w io.Writer) error {
	var old *Report
	report, err := newReport(o)
	if err != nil {
		return err
	}
	if o.Check != "" {
		if old, err = readReport(o.Check); err != nil {
			return err
		}
		if err := comparable(old, report); err != nil {
			return err
		}
	}
	if err := report.measure(ctx, o, w); err != nil {
		return err
	}
	report.render(w)
	if o.Out != "" {
		if err := report.save(o.Out, w); err != nil {
			return err
		}
	}
	if old != nil {
		if n := compare(w, old, report); n > 0 {
			return fmt.Errorf("%d medians are outside the ranges of %s: they are marked above", n, o.Check)
		}
	}
	return nil
}

// measure raises the worlds, plays the rounds and takes the worlds down.
func (r *Report) measure(ctx context.Context, o *Options, w io.Writer) (err error) {
	if err := standAside(o); err != nil {
		return err
	}
	worlds, err := r.worlds(o)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit*time.Duration(len(worlds)+1))
		defer cancel()
		for _, x := range worlds {
			if x.ours {
				err = errors.Join(err, x.Down(ctx))
			}
		}
	}()
	type place struct {
		*world
		*Variant
	}
	var places []place
	var measured []*Variant
	for _, x := range worlds {
		if err := x.raise(ctx, o); err != nil {
			return fmt.Errorf("make the world of %s: %w", x.variants[0].key(), err)
		}
		for _, v := range x.variants {
			places = append(places, place{x, v})
			measured = append(measured, v)
			if f := x.features[v.Setting.node()]; len(f) > 0 {
				r.Features[v.key()] = f
			}
		}
	}
	slices.SortFunc(measured, func(a, b *Variant) int { return slices.Index(variants, a) - slices.Index(variants, b) })
	for number := range o.Rounds {
		begin := time.Now()
		var round []*Visit
		for _, p := range rotate(places, number) {
			visit, err := p.visit(ctx, o, p.Variant)
			if ctx.Err() != nil {
				return fmt.Errorf("stopped in round %d: %w", number+1, context.Cause(ctx))
			}
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", number+1, p.key(), err)
			}
			round = append(round, visit)
		}
		r.Rounds = append(r.Rounds, round)
		fmt.Fprintf(w, "round %d of %d: %.0f s\n", number+1, o.Rounds, time.Since(begin).Seconds())
	}
	fmt.Fprintln(w)
	r.summarise(measured)
	return nil
}

// worlds groups the variants that can be measured by what they need, and notes
// those that cannot.
func (r *Report) worlds(o *Options) ([]*world, error) {
	wanted, err := choose(variants, o.Only)
	if err != nil {
		return nil, err
	}
	by := map[string][]*Variant{}
	var order []string
	for _, v := range wanted {
		err := r.possible(o, v)
		var un *unavailable
		if errors.As(err, &un) {
			r.Left = append(r.Left, &Absent{v.key(), un.reason})
			continue
		}
		if err != nil {
			return nil, err
		}
		if by[v.world()] == nil {
			order = append(order, v.world())
		}
		by[v.world()] = append(by[v.world()], v)
	}
	var out []*world
	for i, name := range order {
		x, err := newWorld(o, i+1, by[name])
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// possible says why a variant cannot be measured here.
func (r *Report) possible(o *Options, v *Variant) error {
	if v.Proxy != "" {
		version, err := proxyVersion(v.Proxy)
		if err != nil {
			return err
		}
		r.Versions[v.Proxy] = version
		_, _, err = proxyConfig(v.Proxy, "", "")
		return err
	}
	if len(v.AgentArgs) == 0 {
		return nil
	}
	// With --help at the end an agent starts nothing, and still complains of
	// flags that it does not know.
	args := append(append([]string{"agent"}, v.AgentArgs...), "--help")
	out, err := exec.Command(filepath.Join(o.Bin, "heddled"), args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return &unavailable{line}
	}
	if err != nil {
		return fmt.Errorf("ask heddled for its flags: %w (make build)", err)
	}
	return nil
}

// standAside keeps this process off the cores that are measured, if there are others.
func standAside(o *Options) error {
	var others []int
	for c := range runtime.NumCPU() {
		if !slices.Contains(o.cores(), c) {
			others = append(others, c)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return load.Pin(os.Getpid(), others...)
}

// newReport has all that is known before the first round.
func newReport(o *Options) (*Report, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	mode := "one core"
	if o.Split {
		mode = "split"
	}
	return &Report{
		Date: time.Now().UTC().Truncate(time.Second), Kernel: unix.ByteSliceToString(name.Release[:]),
		CPU: cpuModel(), Cores: o.cores(), Mode: mode, Congestion: o.Congestion, Command: o.Command, Commit: commit,
		Cell: o.Cell.Seconds(), Warm: o.Warm.Seconds(),
		Versions: map[string]string{}, Features: map[string][]string{},
	}, nil
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return fmt.Sprintf("%s, %d cores, %s", strings.TrimSpace(value), runtime.NumCPU(), runtime.GOARCH)
		}
	}
	return fmt.Sprintf("%d cores, %s", runtime.NumCPU(), runtime.GOARCH)
}

// commit is what this program was built from; the Makefile has the linker set it.
var commit = "unknown"

// save writes the report into a directory, as Markdown and as JSON.
func (r *Report) save(dir string, w io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory for the report: %w", err)
	}
	name := filepath.Join(dir, r.Date.Format("2006-01-02")+"-"+r.Kernel)
	var md strings.Builder
	r.render(&md)
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	for suffix, content := range map[string]string{".md": md.String(), ".json": string(text) + "\n"} {
		if err := os.WriteFile(name+suffix, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	fmt.Fprintf(w, "\nwritten: %s.md and .json\n", name)
	return nil
}
