package admin

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
)

// maxSeries bounds the label sets of connections by service. Services beyond
// it are counted together under the names of overflow.
const (
	maxSeries = 2000
	overflow  = "_other"
)

// Metrics are the agent's metrics. What the kernel and the feed count is read
// when somebody asks; only the applying of plans is counted here. metrics.md
// says what each means.
type Metrics struct {
	apply    prometheus.Histogram
	ops      prometheus.Counter
	failures prometheus.Counter
	drifts   prometheus.Counter

	found, late, strangers prometheus.Counter
}

// NewMetrics returns metrics that stand at zero.
func NewMetrics() *Metrics {
	return &Metrics{
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "heddle_agent_apply_seconds",
			Help:    "Time from the arrival of a change to the last map operation for it.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		ops:      counter("heddle_agent_apply_operations_total", "Map operations carried out."),
		failures: counter("heddle_agent_apply_failures_total", "Plans that could not be applied completely and were tried again."),
		drifts:   counter("heddle_agent_tables_drifted_total", "Times that the kernel's tables were not what was applied, and were repaired."),

		found:     counter("heddle_agent_pods_found_total", "Pods that were found running without having been announced."),
		late:      counter("heddle_agent_pods_started_outside_total", "Those of them that started while the CNI plugin was in force, which did not see them."),
		strangers: counter("heddle_agent_cni_refused_total", "Requests on the CNI socket from anybody but the node's root."),
	}
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// Applied counts a plan that is in force.
func (m *Metrics) Applied(took time.Duration, ops int) {
	m.apply.Observe(took.Seconds())
	m.ops.Add(float64(ops))
}

// Failed counts a plan that could not be applied after ops operations.
func (m *Metrics) Failed(ops int) {
	m.failures.Inc()
	m.ops.Add(float64(ops))
}

// Found counts a pod that nobody announced; late: it started after the CNI
// plugin was in force.
func (m *Metrics) Found(late bool) {
	m.found.Inc()
	if late {
		m.late.Inc()
	}
}

// Drifted counts a repair.
func (m *Metrics) Drifted() { m.drifts.Inc() }

func (m *Metrics) register(r *prometheus.Registry, n Node, t Tables) {
	r.MustRegister(m.apply, m.ops, m.failures, m.drifts, m.found, m.late, m.strangers, newCollector(n, t),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// family is a metric that the collector reads.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// families lists what the collector reads, in the order of metrics.md.
var families = struct {
	build, feedConnected, feedSynced, feedFromCache, feedResources, feedAcks, feedNacks,
	mechanismOn, mechanismConnections,
	pods, services, endpoints, problems, opened, established, open,
	refused, decisions, mapEntries, mapMax, mapBytes, podPackets, podBytes, podDropped family
}{
	build:                gauge("heddle_agent_build_info", "Version of the agent, kernel and Go; always 1.", "version", "kernel", "go"),
	feedConnected:        gauge("heddle_agent_feed_connected", "1 while the stream to the control plane is open."),
	feedSynced:           gauge("heddle_agent_feed_synced", "1 when a complete state is known."),
	feedFromCache:        gauge("heddle_agent_feed_from_cache", "1 while the state comes from the disk and the control plane has not confirmed it."),
	feedResources:        gauge("heddle_agent_feed_resources", "Resources known."),
	feedAcks:             total("heddle_agent_feed_acks_total", "Responses of the control plane that were accepted."),
	feedNacks:            total("heddle_agent_feed_nacks_total", "Responses of the control plane with a resource that was refused."),
	mechanismOn:          gauge("heddle_agent_mechanism_on", "1 while new connections may use a mechanism.", "mechanism"),
	mechanismConnections: gauge("heddle_agent_mechanism_connections", "Connections that a mechanism serves now.", "mechanism"),
	pods:                 gauge("heddle_agent_pods", "Pods announced to the agent, by whether they are in the mesh.", "enrolled"),
	services:             gauge("heddle_agent_services", "Service ports programmed."),
	endpoints:            gauge("heddle_agent_endpoints", "Endpoints programmed."),
	problems:             gauge("heddle_agent_problems", "Problems that the operator should know, by reason.", "reason"),
	opened:               total("heddle_agent_connects_total", "Connections sent to a backend.", "service", "port", "backend"),
	established:          total("heddle_agent_connects_established_total", "TCP connections to a backend whose handshake completed.", "service", "port", "backend"),
	open:                 gauge("heddle_agent_connects_open", "Connections to a backend that are open now.", "service", "port", "backend"),
	refused:              total("heddle_agent_refusals_total", "Connections refused, by reason.", "service", "port", "reason"),
	decisions:            total("heddle_agent_decisions_total", "Decisions of the kernel about connections and packets, by reason.", "reason"),
	mapEntries:           gauge("heddle_agent_map_entries", "Entries in a kernel map.", "map"),
	mapMax:               gauge("heddle_agent_map_max_entries", "Entries that a kernel map can hold.", "map"),
	mapBytes:             gauge("heddle_agent_map_bytes", "Kernel memory of a map.", "map"),
	podPackets:           total("heddle_agent_pod_packets_total", "Packets on the interface of a pod in the mesh.", "namespace", "pod", "direction"),
	podBytes:             total("heddle_agent_pod_bytes_total", "Bytes on the interface of a pod in the mesh.", "namespace", "pod", "direction"),
	podDropped:           total("heddle_agent_pod_dropped_total", "Packets dropped on the interface of a pod in the mesh.", "namespace", "pod"),
}

func gauge(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

func total(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

// collector reads the node and the tables at each scrape.
type collector struct {
	node   Node
	tables Tables

	mu struct {
		sync.Mutex
		named map[[3]string]bool // label sets that got a series of their own, for good
	}
}

func newCollector(n Node, t Tables) *collector {
	c := &collector{node: n, tables: t}
	c.mu.named = make(map[[3]string]bool)
	return c
}

// Describe sends nothing: which series there are depends on the services.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	send := func(f family, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, v, labels...)
	}
	view := c.node.View()
	status, err := Status(c.node.Status(), view, c.tables)
	if err != nil {
		out <- prometheus.NewInvalidMetric(families.decisions.desc, err)
	}
	collectStatus(send, status)
	if err := c.collectServices(send, view); err != nil {
		out <- prometheus.NewInvalidMetric(families.opened.desc, err)
	}
	if err := c.collectMaps(send); err != nil {
		out <- prometheus.NewInvalidMetric(families.mapEntries.desc, err)
	}
	if err := c.collectPods(send); err != nil {
		out <- prometheus.NewInvalidMetric(families.podPackets.desc, err)
	}
}

type sender func(f family, v float64, labels ...string)

func collectStatus(send sender, s api.AgentStatus) {
	send(families.build, 1, s.Version, s.Kernel, runtime.Version())
	send(families.feedConnected, float64(b2i(s.Feed.Connected)))
	send(families.feedSynced, float64(b2i(s.Feed.Synced)))
	send(families.feedFromCache, float64(b2i(s.Feed.FromCache)))
	send(families.feedResources, float64(s.Feed.Resources))
	send(families.feedAcks, float64(s.Feed.Acks))
	send(families.feedNacks, float64(s.Feed.Nacks))
	send(families.services, float64(s.Services))
	send(families.endpoints, float64(s.Endpoints))
	problems := make(map[string]int)
	for _, p := range s.Problems {
		problems[p.Reason]++
	}
	for _, reason := range slices.Sorted(maps.Keys(problems)) {
		send(families.problems, float64(problems[reason]), reason)
	}
	for _, m := range s.Mechanisms {
		send(families.mechanismOn, float64(b2i(m.On)), m.Name)
		send(families.mechanismConnections, float64(m.Now), m.Name)
	}
	for _, r := range s.Reasons {
		send(families.decisions, float64(r.Count), r.Name)
	}
}

// collectServices sums up by label set first: one backend may be listed twice,
// and everything beyond maxSeries ends in one.
func (c *collector) collectServices(send sender, v *View) error {
	services, err := Services(v, c.tables)
	if err != nil {
		return err
	}
	backends := make(map[[3]string]bpf.StatVal)
	refused := make(map[[3]string]uint64)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range services {
		name, port := s.Namespace+"/"+s.Name, s.PortName
		if s.Scope != "" {
			name += "@" + s.Scope
		}
		if port == "" {
			port = fmt.Sprint(s.Port)
		}
		for _, b := range s.Backends {
			add(backends, c.bound([3]string{name, port, b.Backend}), bpf.StatVal{Opened: b.Opened, Established: b.Established, Closed: b.Opened - b.Open})
		}
		for _, r := range s.Refused {
			key := [3]string{name, port, r.Name}
			if !c.mu.named[c.bound(key)] {
				key = [3]string{overflow, overflow, r.Name}
			}
			refused[key] += r.Count
		}
	}
	for labels, sum := range backends {
		send(families.opened, float64(sum.Opened), labels[:]...)
		send(families.established, float64(sum.Established), labels[:]...)
		send(families.open, float64(open(sum)), labels[:]...)
	}
	for labels, n := range refused {
		send(families.refused, float64(n), labels[:]...)
	}
	return nil
}

// bound returns the label set under which a series is counted. Once named, it
// stays so: a counter must not change its place.
func (c *collector) bound(labels [3]string) [3]string {
	if c.mu.named[labels] {
		return labels
	}
	if len(c.mu.named) >= maxSeries {
		return [3]string{overflow, overflow, overflow}
	}
	c.mu.named[labels] = true
	return labels
}

func (c *collector) collectMaps(send sender) error {
	usage, err := c.tables.Usage()
	for _, m := range usage {
		if m.Entries >= 0 {
			send(families.mapEntries, float64(m.Entries), m.Name)
			send(families.mapMax, float64(m.MaxEntries), m.Name)
		}
		send(families.mapBytes, float64(m.Bytes), m.Name)
	}
	return err
}

func (c *collector) collectPods(send sender) error {
	pods, err := Pods(c.node.Pods(), c.tables)
	if err != nil {
		return err
	}
	enrolled := 0
	for _, p := range pods {
		if !p.Enrolled {
			continue
		}
		enrolled++
		send(families.podPackets, float64(p.RxPackets), p.Namespace, p.Name, "from")
		send(families.podPackets, float64(p.TxPackets), p.Namespace, p.Name, "to")
		send(families.podBytes, float64(p.RxBytes), p.Namespace, p.Name, "from")
		send(families.podBytes, float64(p.TxBytes), p.Namespace, p.Name, "to")
		send(families.podDropped, float64(p.Dropped), p.Namespace, p.Name)
	}
	send(families.pods, float64(enrolled), "true")
	send(families.pods, float64(len(pods)-enrolled), "false")
	return nil
}
