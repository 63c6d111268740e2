package plane

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are the controller's metrics. Most are read from the parts when
// somebody asks. metrics.md says what each means.
type metrics struct {
	registry *prometheus.Registry
	change   prometheus.Histogram
}

func newMetrics(p *Plane) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		change: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "heddle_controller_change_seconds",
			Help:    "Time from noticing a change of the objects until it is served.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	m.registry.MustRegister(m.change, &collector{p},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// What the collector reads, in the order of metrics.md.
var (
	buildInfo = describe("heddle_controller_build_info", "Version of the controller and Go; always 1.", "version", "go")
	sourceUp  = describe("heddle_controller_source_up", "1 while the source of the objects can be read.")
	objectsBy = describe("heddle_controller_objects", "Objects in force, by kind.", "kind")
	problems  = describe("heddle_controller_problems", "Problems that the operator should know, by reason.", "reason")
	nodes     = describe("heddle_controller_nodes", "Nodes with a stream.")
	batches   = describe("heddle_controller_batches_total", "Changes that were translated and served.")
	encoded   = describe("heddle_controller_resources_encoded_total", "Resources encoded; each once, however many nodes get it.")
	sent      = describe("heddle_controller_resources_sent_total", "Resources sent to nodes.")
	acks      = describe("heddle_controller_acks_total", "Responses that nodes accepted.")
	refused   = describe("heddle_controller_streams_refused_total", "Streams that were refused because nobody knew that they are a node's, by reason.", "reason")
	leading   = describe("heddle_controller_leading", "1 while this controller writes the status of objects.")
	written   = describe("heddle_controller_status_writes_total", "Statuses of objects that were written.")
	unwritten = describe("heddle_controller_status_failures_total", "Attempts to write a status that failed.")
	nacks     = describe("heddle_controller_nacks_total", "Responses with a resource that a node refused.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

type collector struct{ p *Plane }

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{buildInfo, sourceUp, objectsBy, problems, nodes, batches, encoded, sent, acks, nacks, refused, leading, written, unwritten} {
		out <- d
	}
}

func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	s, totals := c.p.status(), c.p.server.Totals()
	gauge(buildInfo, 1, s.Version, runtime.Version())
	up := 1.0
	if s.Source.Error != "" {
		up = 0
	}
	gauge(sourceUp, up)
	for _, o := range s.Objects {
		gauge(objectsBy, float64(o.Count), o.Name)
	}
	byReason := make(map[string]int)
	for _, problem := range s.Problems {
		byReason[problem.Reason]++
	}
	for reason, n := range byReason {
		gauge(problems, float64(n), reason)
	}
	gauge(nodes, float64(len(s.Nodes)))
	counter(batches, totals.Batches)
	counter(encoded, totals.Encoded)
	counter(sent, totals.Sent)
	counter(acks, totals.Acks)
	counter(nacks, totals.Nacks)
	writes, failures, leads := c.p.cluster.wrote()
	counter(written, writes)
	counter(unwritten, failures)
	up = 0
	if leads {
		up = 1
	}
	gauge(leading, up)
	for reason, n := range c.p.cluster.refused() {
		out <- prometheus.MustNewConstMetric(refused, prometheus.CounterValue, float64(n), reason)
	}
}
