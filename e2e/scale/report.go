package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what a run found, with every single value.
type report struct {
	Date      time.Time `json:"date"`
	Kernel    string    `json:"kernel"`
	Machine   string    `json:"machine"`
	Go        string    `json:"go"`
	Commit    string    `json:"commit"`
	Command   string    `json:"command"`
	Services  int       `json:"services"`
	Endpoints int       `json:"endpoints"`
	Routes    int       `json:"routes"`
	Files     int       `json:"files"`

	Colds   []Cold    `json:"coldStarts"`
	Idle    Usage     `json:"idleCPU"`
	Memory  MemoryUse `json:"memory"`
	Changes []Change  `json:"changes"`
	After   MemoryUse `json:"memoryAfterChanges"`
}

func newReport(o options, w *world) *report {
	var uts unix.Utsname
	kernel := "unknown"
	if unix.Uname(&uts) == nil {
		kernel = unix.ByteSliceToString(uts.Release[:])
	}
	return &report{
		Date: time.Now().UTC(), Kernel: kernel, Go: runtime.Version(),
		Machine: fmt.Sprintf("%s, %d processors", runtime.GOARCH, runtime.NumCPU()),
		Commit:  commit(), Command: strings.Join(append([]string{"scale"}, os.Args[1:]...), " "),
		Services: o.services, Endpoints: o.services * o.endpoints, Routes: len(w.weights), Files: len(w.files()),
	}
}

// commit is what git says of the sources; "-dirty" when they were changed.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// save writes the report, and with it every single value.
func (r *report) save(dir, text string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, r.Date.Format(time.DateOnly)+"-"+r.Kernel)
	if err := os.WriteFile(name+".json", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(name+".md", []byte(text), 0o644)
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Scale: %d services, %d endpoints\n\n", r.Services, r.Endpoints)
	fmt.Fprintf(&b, "%s, Linux %s, %s, %s, commit %s, `%s`\n\n", r.Date.Format("2006-01-02 15:04 MST"), r.Kernel, r.Machine, r.Go, r.Commit, r.Command)
	fmt.Fprintf(&b, "%d files of YAML, %d routes with weights. Values are medians with (lowest–highest); how they are\nmeasured is in e2e/scale/README.md.\n\n", r.Files, r.Routes)
	r.coldTable(&b)
	r.memoryTable(&b)
	r.changeTable(&b)
	return b.String()
}

func (r *report) coldTable(b *strings.Builder) {
	fmt.Fprintf(b, "## From cold (%d starts)\n\n| | |\n|---|---|\n", len(r.Colds))
	row := func(name, unit string, scale float64, digits int, of func(Cold) float64) {
		fmt.Fprintf(b, "| %s | %s |\n", name, spread(values(r.Colds, of), scale, digits, unit))
	}
	row("wall, start of the controller to last map operation", "s", 1, 2, func(c Cold) float64 { return c.Wall })
	row("CPU of the agent, start to programmed", "s", 1, 2, func(c Cold) float64 { return c.CPU.Agent })
	row("CPU of the agent, with the state on disk", "s", 1, 2, func(c Cold) float64 { return c.Settled.Agent })
	row("CPU of the controller, start to programmed", "s", 1, 2, func(c Cold) float64 { return c.CPU.Controller })
	row("CPU of the agent of a node without pods of the mesh", "s", 1, 2, func(c Cold) float64 { return c.CPU.Bystander })
	row("map operations", "", 1, 0, func(c Cold) float64 { return float64(c.Ops) })
	row("bytes on the stream", "MB", 1e-6, 2, func(c Cold) float64 { return float64(c.Bytes) })
	fmt.Fprintf(b, "| CPU without changes: controller, agent | %.1f, %.1f ms per second |\n\n", 1e3*r.Idle.Controller, 1e3*r.Idle.Agent)
}

func (r *report) memoryTable(b *strings.Builder) {
	fmt.Fprintf(b, "## Memory, MB\n\n| | after start | after %d changes |\n|---|---|---|\n", len(r.Changes))
	row := func(name string, of func(*MemoryUse) uint64) {
		fmt.Fprintf(b, "| %s | %.1f | %.1f |\n", name, mb(of(&r.Memory)), mb(of(&r.After)))
	}
	row("agent, RSS", func(u *MemoryUse) uint64 { return u.Agent.RSS })
	row("agent, Go heap in use", func(u *MemoryUse) uint64 { return u.Agent.Heap })
	row("agent, highest RSS", func(u *MemoryUse) uint64 { return u.Agent.Highest })
	row("maps of the node, as charged by the kernel", (*MemoryUse).mapBytes)
	row("**agent RSS + maps**", func(u *MemoryUse) uint64 { return u.Agent.RSS + u.mapBytes() })
	row("agent of a node without pods of the mesh, RSS", func(u *MemoryUse) uint64 { return u.Bystander.RSS })
	row("controller, RSS", func(u *MemoryUse) uint64 { return u.Controller.RSS })
	row("controller, highest RSS", func(u *MemoryUse) uint64 { return u.Controller.Highest })
	b.WriteString("\n| map | entries | of | MB |\n|---|---|---|---|\n")
	for _, m := range r.Memory.Maps {
		fmt.Fprintf(b, "| `%s` | %d | %d | %.2f |\n", m.Name, m.Entries, m.MaxEntries, mb(m.Bytes))
	}
	b.WriteString("\n")
}

func (r *report) changeTable(b *strings.Builder) {
	b.WriteString("## One change\n\n")
	b.WriteString("| change | wall, ms | CPU agent, ms | CPU controller, ms | map operations | bytes on the stream | resources encoded | the other node: operations, responses, bytes |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|\n")
	for _, kind := range kinds {
		of := slices.DeleteFunc(slices.Clone(r.Changes), func(c Change) bool { return c.Kind != kind })
		if len(of) == 0 {
			continue
		}
		column := func(scale float64, digits int, get func(Change) float64) string {
			return spread(values(of, get), scale, digits, "")
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s, %s, %s |\n", kind,
			column(1e3, 1, func(c Change) float64 { return c.Wall }),
			column(1e3, 1, func(c Change) float64 { return c.CPU.Agent }),
			column(1e3, 1, func(c Change) float64 { return c.CPU.Controller }),
			column(1, 0, func(c Change) float64 { return float64(c.Ops) }),
			column(1, 0, func(c Change) float64 { return float64(c.Bytes) }),
			column(1, 0, func(c Change) float64 { return float64(c.Encoded) }),
			column(1, 0, func(c Change) float64 { return float64(c.BystanderOps) }),
			column(1, 0, func(c Change) float64 { return float64(c.BystanderResponses) }),
			column(1, 0, func(c Change) float64 { return float64(c.BystanderBytes) }))
	}
	b.WriteString("\n")
}

func mb(bytes uint64) float64 { return float64(bytes) / 1e6 }

func values[T any](all []T, of func(T) float64) []float64 {
	out := make([]float64, len(all))
	for i, v := range all {
		out[i] = of(v)
	}
	return out
}

// spread is the median with the lowest and the highest value; the value alone
// when all are the same.
func spread(all []float64, scale float64, digits int, unit string) string {
	if len(all) == 0 {
		return "-"
	}
	if unit != "" {
		unit = " " + unit
	}
	all = slices.Sorted(slices.Values(all))
	text := func(v float64) string { return fmt.Sprintf("%.*f", digits, v*scale) }
	low, high := text(all[0]), text(all[len(all)-1])
	if low == high {
		return low + unit
	}
	return fmt.Sprintf("%s%s (%s–%s)", text(median(all)), unit, low, high)
}

// median is the middle of sorted values, or halfway between the middle two.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
