package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
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
	Date    time.Time `json:"date"`
	Kernel  string    `json:"kernel"`
	Machine string    `json:"machine"`
	Load    string    `json:"loadBefore"` // of the machine, 1, 5 and 15 minutes
	LoadEnd string    `json:"loadAfter"`
	Go      string    `json:"go"`
	Commit  string    `json:"commit"`
	Command string    `json:"command"`
	Shape   shape     `json:"shape"`

	Setup    Setup     `json:"setup"`
	Cold     Cold      `json:"coldStart"`
	Idle     Span      `json:"idle"`
	Changes  Changes   `json:"changes"`
	Rollout  Rollout   `json:"rollout"`
	Memory   Memory    `json:"memoryAtEnd"`
	Requests []Request `json:"requests"`
}

func newReport(o options) *report {
	var uts unix.Utsname
	kernel := "unknown"
	if unix.Uname(&uts) == nil {
		kernel = unix.ByteSliceToString(uts.Release[:])
	}
	return &report{
		Date: time.Now().UTC(), Kernel: kernel, Go: runtime.Version(),
		Machine: fmt.Sprintf("%s, %d processors", runtime.GOARCH, runtime.NumCPU()),
		Load:    load(),
		Commit:  commit(), Command: strings.Join(append([]string{"kube"}, os.Args[1:]...), " "),
		Shape: o.shape,
	}
}

// load is the load of the machine, by which others are known to use it too.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
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
	name := filepath.Join(dir, "kube-"+r.Date.Format(time.DateOnly)+"-"+r.Kernel)
	if err := os.WriteFile(name+".json", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(name+".md", []byte(text), 0o644)
}

func (r *report) markdown() string {
	var b strings.Builder
	s := r.Shape
	fmt.Fprintf(&b, "# Scale on Kubernetes: %d nodes, %d pods, %d services\n\n", s.Nodes, s.pods(), s.Services)
	fmt.Fprintf(&b, "%s, Linux %s, %s, %s, commit %s, `%s`\n\n", r.Date.Format("2006-01-02 15:04 MST"), r.Kernel, r.Machine, r.Go, r.Commit, r.Command)
	fmt.Fprintf(&b, "Load of the machine before: %s, after: %s. API server, etcd, kwok, the controller and %d agents share its\nprocessors. %d nodes have pods of the mesh, %d have none. How it is measured is in e2e/scale/README.md.\n\n",
		r.Load, r.LoadEnd, s.Nodes, s.MeshNodes, s.Nodes-s.MeshNodes)
	r.coldTable(&b)
	r.changeTable(&b)
	r.rolloutTable(&b)
	r.requestTable(&b)
	return b.String()
}

func heading(b *strings.Builder, text string) { fmt.Fprintf(b, "## %s\n\n| | |\n|---|---|\n", text) }

func row(b *strings.Builder, name, format string, args ...any) {
	fmt.Fprintf(b, "| %s | %s |\n", name, fmt.Sprintf(format, args...))
}

func (r *report) coldTable(b *strings.Builder) {
	heading(b, "Start of the controller")
	c := r.Cold
	row(b, "until it serves the cluster", "%.2f s, CPU %.2f s", c.Ready, c.ReadyCPU)
	row(b, "RSS then", "%.1f MB", mb(c.RSS))
	row(b, "until all agents are served, from the first connection on", "%.2f s, CPU %.2f s", c.Agents, c.CPU)
	row(b, "bytes to a node with, without pods of the mesh", "%d, %d", c.MeshB, c.OtherB)
	row(b, "CPU without changes", "%.1f ms per second", 1e3*r.Idle.CPU/(r.Idle.Seconds+settle.Seconds()))
	row(b, "RSS at the end of everything, highest", "%.1f, %.1f MB", mb(r.Memory.RSS), mb(r.Memory.Highest))
	b.WriteString("\n")
}

func (r *report) changeTable(b *strings.Builder) {
	c := r.Changes
	heading(b, fmt.Sprintf("One endpoint (%d changes, one every %s)", c.Count, c.Every))
	times := func(all []float64) string {
		return fmt.Sprintf("%.1f, **%.1f**, %.1f ms", 1e3*quantile(all, .5), 1e3*quantile(all, .99), 1e3*quantile(all, 1))
	}
	n := float64(max(c.Count, 1))
	row(b, fmt.Sprintf("API server's answer to the last of %d acknowledgements: median, p99, most", r.Shape.MeshNodes), "%s", times(c.FromAnswer))
	row(b, "the same from before the request", "%s", times(c.FromRequest))
	row(b, "CPU of the controller for each change, with what it uses without any", "%.2f ms", 1e3*c.CPU/n)
	row(b, "batches, resources encoded", "%d, %d", c.Batches, c.Encoded)
	row(b, "a node of the mesh, for each change: responses, resources, bytes", "%.2f, %.2f, %.0f", c.Responses/n, c.Resources/n, c.Bytes/n)
	row(b, fmt.Sprintf("all %d other nodes together: responses, resources, bytes", r.Shape.Nodes-r.Shape.MeshNodes), "%d, %d, %d", c.OtherResponses, c.OtherResources, c.OtherBytes)
	b.WriteString("\n")
}

func (r *report) rolloutTable(b *strings.Builder) {
	o := r.Rollout
	heading(b, fmt.Sprintf("Rollout of %d pods", o.Pods))
	row(b, "writes, one endpoint and one deleted pod each", "%.2f s", o.Writes)
	row(b, "from the last to the last acknowledgement", "%.1f ms", 1e3*o.Last)
	row(b, "events of the API server", "%d", o.Events)
	row(b, "batches", "%d", o.Batches)
	row(b, "resources encoded", "%d", o.Encoded)
	row(b, "a node of the mesh: responses, resources, bytes", "%.0f, %.0f, %.0f", o.Responses, o.Resources, o.Bytes)
	row(b, "CPU of the controller, together, for each pod", "%.2f s, %.2f ms", o.CPU, 1e3*o.CPU/float64(max(o.Pods, 1)))
	row(b, fmt.Sprintf("all %d other nodes together: responses, resources, bytes", r.Shape.Nodes-r.Shape.MeshNodes), "%d, %d, %d", o.OtherResponses, o.OtherResources, o.OtherBytes)
	b.WriteString("\n")
}

func (r *report) requestTable(b *strings.Builder) {
	b.WriteString("## What the controller asked the API server, in all of this\n\n| verb | resource | requests |\n|---|---|---|\n")
	for _, q := range r.Requests {
		fmt.Fprintf(b, "| %s | %s | %d |\n", q.Verb, q.Resource, q.Count)
	}
}

// ordered lists counted requests by verb and resource.
func ordered(counts map[Request]int) []Request {
	all := slices.SortedFunc(maps.Keys(counts), func(x, y Request) int {
		return cmp.Or(cmp.Compare(x.Verb, y.Verb), cmp.Compare(x.Resource, y.Resource))
	})
	for i, q := range all {
		all[i].Count = counts[q]
	}
	return all
}

func mb(bytes uint64) float64 { return float64(bytes) / 1e6 }

// quantile is the smallest value that at least this share of all does not exceed.
func quantile(all []float64, share float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}
