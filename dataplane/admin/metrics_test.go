package admin

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
)

// gathered are the agent's own metrics in the form of a line of metrics.md.
func gathered(t *testing.T, s *stub) map[string]string {
	t.Helper()
	registry := prometheus.NewRegistry()
	m := NewMetrics()
	m.Applied(time.Millisecond, 3)
	m.register(registry, s, s)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "heddle_") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		out[f.GetName()] = fmt.Sprintf("%s | %s | %s", strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return out
}

// Everything that is exported is explained, and the other way round.
func TestMetricsAreDocumented(t *testing.T) {
	s := newStub(t, shop)
	s.status.Problems = []api.Problem{{Reason: "MapFull"}}
	s.status.Mechanisms = []api.Mechanism{{Name: "fast_path", On: true, Now: 3}}
	s.reasons[bpf.ReasonBalanced] = 1
	s.refusals[bpf.RefusalKey{Service: s.port(t, "shop/dns").IDs[0], Reason: bpf.ReasonNoEndpoint}] = 1
	got := gathered(t, s)

	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]string)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name := strings.Trim(cells[0], " `")
		if len(cells) != 4 || !strings.HasPrefix(name, "heddle_") {
			continue
		}
		labels := strings.Split(strings.TrimSpace(cells[2]), ", ")
		slices.Sort(labels) // Prometheus sorts them
		listed[name] = fmt.Sprintf("%s | %s | %s", strings.TrimSpace(cells[1]), strings.Join(labels, ", "), strings.TrimSpace(cells[3]))
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if got[name] != listed[name] {
			t.Errorf("%s\n is        %s\n metrics.md %s", name, got[name], listed[name])
		}
	}
	for name := range listed {
		if _, ok := got[name]; !ok {
			t.Errorf("metrics.md lists %s, which is not exported", name)
		}
	}
}

// However many services there are, the number of series is bounded; no
// connection is lost from the sum.
func TestSeriesAreBounded(t *testing.T) {
	c := newCollector(nil, nil)
	for i := range maxSeries + 500 {
		c.bound([3]string{fmt.Sprint("shop/", i), "http", "b"})
	}
	if n := len(c.mu.named); n != maxSeries {
		t.Errorf("%d series", n)
	}
	if got := c.bound([3]string{"shop/2400", "http", "b"}); got != [3]string{overflow, overflow, overflow} {
		t.Errorf("one beyond is counted as %v", got)
	}
	if got := c.bound([3]string{"shop/3", "http", "b"}); got[0] != "shop/3" {
		t.Errorf("a known one moved to %v", got)
	}
}
