package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"heddle.io/heddle/api/admin"
)

// podRate is what a pod does, each second.
type podRate struct {
	Node        string  `json:"node"`
	Pod         string  `json:"pod"` // namespace/name
	FromBytes   float64 `json:"fromBytes"`
	ToBytes     float64 `json:"toBytes"`
	FromPackets float64 `json:"fromPackets"`
	ToPackets   float64 `json:"toPackets"`
	Dropped     float64 `json:"dropped"`
}

// serviceRate is what a service port does, each second, on all nodes together.
type serviceRate struct {
	Service     string  `json:"service"` // namespace/name
	Port        string  `json:"port"`
	Nodes       int     `json:"nodes"` // with connections now
	Connections float64 `json:"connections"`
	Refused     float64 `json:"refused"`
	Open        uint64  `json:"open"` // now, not a rate
}

var podOrders = map[string]func(a, b podRate) int{
	"bytes":   func(a, b podRate) int { return cmp.Compare(b.FromBytes+b.ToBytes, a.FromBytes+a.ToBytes) },
	"packets": func(a, b podRate) int { return cmp.Compare(b.FromPackets+b.ToPackets, a.FromPackets+a.ToPackets) },
	"dropped": func(a, b podRate) int { return cmp.Compare(b.Dropped, a.Dropped) },
	"name":    func(a, b podRate) int { return strings.Compare(a.Pod, b.Pod) },
}

var serviceOrders = map[string]func(a, b serviceRate) int{
	"connections": func(a, b serviceRate) int { return cmp.Compare(b.Connections, a.Connections) },
	"open":        func(a, b serviceRate) int { return cmp.Compare(b.Open, a.Open) },
	"refused":     func(a, b serviceRate) int { return cmp.Compare(b.Refused, a.Refused) },
	"name":        func(a, b serviceRate) int { return strings.Compare(a.Service, b.Service) },
}

// perSecond is how fast a counter grew. One that became smaller began anew:
// what it was in between is not known.
func perSecond(old, now uint64, d time.Duration) float64 {
	if now < old || d <= 0 {
		return 0
	}
	return float64(now-old) / d.Seconds()
}

// podRates leaves out pods that are only in one of the readings, and those
// whose name was given to another pod in between.
func podRates(old, now []answer[admin.Pod]) []podRate {
	rates := []podRate{}
	type key struct {
		node, namespace, name string
		netns                 uint64
	}
	before := map[key]admin.Pod{}
	at := map[string]time.Time{}
	for _, l := range old {
		at[l.Node] = l.at
		for _, p := range l.Items {
			before[key{l.Node, p.Namespace, p.Name, p.Netns}] = p
		}
	}
	for _, l := range now {
		d := l.at.Sub(at[l.Node])
		for _, p := range l.Items {
			q, ok := before[key{l.Node, p.Namespace, p.Name, p.Netns}]
			if !ok || !p.Enrolled {
				continue
			}
			rates = append(rates, podRate{
				Node: l.Node, Pod: p.Namespace + "/" + p.Name,
				FromBytes: perSecond(q.RxBytes, p.RxBytes, d), ToBytes: perSecond(q.TxBytes, p.TxBytes, d),
				FromPackets: perSecond(q.RxPackets, p.RxPackets, d), ToPackets: perSecond(q.TxPackets, p.TxPackets, d),
				Dropped: perSecond(q.Dropped, p.Dropped, d),
			})
		}
	}
	return rates
}

// serviceRates adds up the nodes and the variants of a service port.
func serviceRates(old, now []answer[admin.Service]) []serviceRate {
	type key struct{ node, service, port, scope string }
	name := func(node string, s *admin.Service) key {
		return key{node, s.Namespace + "/" + s.Name, portName(s), s.Scope}
	}
	before := map[key]*admin.Service{}
	at := map[string]time.Time{}
	for _, l := range old {
		at[l.Node] = l.at
		for i := range l.Items {
			before[name(l.Node, &l.Items[i])] = &l.Items[i]
		}
	}
	rates := []serviceRate{}
	index := map[[2]string]int{}
	busy := map[[2]any]bool{} // row and node
	for _, l := range now {
		d := l.at.Sub(at[l.Node])
		for i := range l.Items {
			s := &l.Items[i]
			k := name(l.Node, s)
			q := before[k]
			if q == nil {
				continue
			}
			row, ok := index[[2]string{k.service, k.port}]
			if !ok {
				row = len(rates)
				index[[2]string{k.service, k.port}] = row
				rates = append(rates, serviceRate{Service: k.service, Port: k.port})
			}
			here := [2]any{row, l.Node}
			if rates[row].add(q, s, d) && !busy[here] {
				busy[here] = true
				rates[row].Nodes++
			}
		}
	}
	return rates
}

// add reports whether the service port has connections.
func (r *serviceRate) add(old, now *admin.Service, d time.Duration) bool {
	opened := perBackend(old)
	busy := false
	for _, b := range now.Backends {
		r.Connections += perSecond(opened[b.Backend], b.Opened, d)
		r.Open += b.Open
		busy = busy || b.Open > 0 || b.Opened > opened[b.Backend]
	}
	refused := map[string]uint64{}
	for _, c := range old.Refused {
		refused[c.Name] = c.Count
	}
	for _, c := range now.Refused {
		r.Refused += perSecond(refused[c.Name], c.Count, d)
	}
	return busy
}

func perBackend(s *admin.Service) map[string]uint64 {
	out := map[string]uint64{}
	for _, b := range s.Backends {
		out[b.Backend] = b.Opened
	}
	return out
}

func renderTopPods(w io.Writer, r *topReport[podRate]) {
	t := &table{}
	t.row("POD", "NODE", "FROM POD/s", "TO POD/s", "PACKETS FROM/s", "PACKETS TO/s", "DROPPED/s")
	for _, p := range r.Rows {
		t.row(p.Pod, p.Node, size(uint64(p.FromBytes)), size(uint64(p.ToBytes)), rate(p.FromPackets), rate(p.ToPackets), rate(p.Dropped))
	}
	t.write(w)
	renderTopEnd(w, r.Left, r.Errors)
}

func renderTopServices(w io.Writer, r *topReport[serviceRate]) {
	t := &table{}
	t.row("SERVICE", "PORT", "CONNECTIONS/s", "OPEN", "REFUSED/s", "NODES")
	for _, s := range r.Rows {
		t.row(s.Service, s.Port, rate(s.Connections), number(s.Open), rate(s.Refused), fmt.Sprint(s.Nodes))
	}
	t.write(w)
	renderTopEnd(w, r.Left, r.Errors)
}

func renderTopEnd(w io.Writer, left int, errs []string) {
	if left > 0 {
		fmt.Fprintf(w, "and %d more (--rows)\n", left)
	}
	for _, e := range errs {
		fmt.Fprintln(w, "unreachable:", e)
	}
}

// rate is a number for each second: exact where it is small.
func rate(n float64) string {
	if n == 0 || n >= 10 {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.1f", n)
}
