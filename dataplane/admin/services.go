package admin

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state"
)

// counts are the connections by service, cluster and endpoint, read once for
// one answer.
type counts struct {
	choices   map[Choice]bpf.StatVal
	endpoints map[endpointKey]bpf.StatVal      // all services together
	ofService map[serviceEndpoint]bpf.StatVal  // one service
	refused   map[uint64]map[bpf.Reason]uint64 // by service
	ejected   map[endpointKey]time.Duration    // how long still
}

type endpointKey struct {
	cluster uint64
	at      netip.AddrPort
}

type serviceEndpoint struct {
	service uint64
	endpointKey
}

// Count reads the connections of every choice, for a Record.
func Count(t Tables) (map[Choice]uint64, error) {
	c, err := readCounts(t)
	if err != nil {
		return nil, err
	}
	return c.opened(), nil
}

func (c *counts) opened() map[Choice]uint64 {
	out := make(map[Choice]uint64, len(c.choices))
	for choice, v := range c.choices {
		out[choice] = v.Opened
	}
	for service, reasons := range c.refused {
		out[Choice{Service: service}] = reasons[bpf.ReasonBackendMissing]
	}
	return out
}

func readCounts(t Tables) (*counts, error) {
	stats, err := t.Stats()
	if err != nil {
		return nil, err
	}
	refusals, err := t.Refusals()
	if err != nil {
		return nil, err
	}
	ejected, err := t.Ejected()
	if err != nil {
		return nil, err
	}
	c := &counts{
		ejected:   make(map[endpointKey]time.Duration, len(ejected)),
		choices:   make(map[Choice]bpf.StatVal),
		endpoints: make(map[endpointKey]bpf.StatVal),
		ofService: make(map[serviceEndpoint]bpf.StatVal, len(stats)),
		refused:   make(map[uint64]map[bpf.Reason]uint64),
	}
	for k, v := range stats {
		e := endpointKey{k.Cluster, netip.AddrPortFrom(bpf.AddrOf(k.Addr), bpf.Port(k.PortBe))}
		add(c.choices, Choice{k.Service, k.Cluster}, v)
		add(c.endpoints, e, v)
		add(c.ofService, serviceEndpoint{k.Service, e}, v)
	}
	for k, left := range ejected {
		c.ejected[endpointKey{k.Cluster, netip.AddrPortFrom(bpf.AddrOf(k.Addr), bpf.Port(k.PortBe))}] = left
	}
	for k, n := range refusals {
		if c.refused[k.Service] == nil {
			c.refused[k.Service] = make(map[bpf.Reason]uint64)
		}
		c.refused[k.Service][k.Reason] += n
	}
	return c, nil
}

func add[K comparable](m map[K]bpf.StatVal, key K, v bpf.StatVal) {
	sum := m[key]
	sum.Opened += v.Opened
	sum.Established += v.Established
	sum.Closed += v.Closed
	m[key] = sum
}

// open is how many connections are open now. The kernel forgets counters of
// endpoints long unused, so closed may be ahead.
func open(v bpf.StatVal) uint64 {
	if v.Closed > v.Opened {
		return 0
	}
	return v.Opened - v.Closed
}

// Services lists the programmed service ports with their shares.
func Services(v *View, t Tables) ([]api.Service, error) {
	out := []api.Service{}
	if v == nil {
		return out, nil
	}
	c, err := readCounts(t)
	if err != nil {
		return nil, err
	}
	for _, p := range v.Index.Ports {
		out = append(out, service(v, c, p))
	}
	return out, nil
}

func service(v *View, c *counts, p *plan.ServicePort) api.Service {
	record := v.Records[PortKey{p.Resource, p.Port, p.Protocol}]
	s := api.Service{
		Namespace: p.Namespace, Name: p.Name, Scope: p.Scope,
		Port: p.Port, PortName: p.PortName, Protocol: p.Protocol.String(),
		Route: p.Route, Affinity: p.AffinitySeconds,
		Backends:   backends(v, c, p, record),
		Refused:    refused(c, p),
		Programmed: record.Programmed,
		ID:         ids(p.IDs),
	}
	for _, a := range p.Addresses {
		s.Addresses = append(s.Addresses, a.String())
	}
	return s
}

// backends lists the shares of a service port, expected and observed.
func backends(v *View, c *counts, p *plan.ServicePort, record Record) []api.Backend {
	list := make([]api.Backend, len(p.Backends))
	since := c.since(p, record)
	total := 0.0
	for _, n := range since {
		total += n
	}
	for i, b := range p.Backends {
		list[i] = backend(v, c, p, b)
		if total > 0 {
			list[i].Observed = since[i] / total
		}
	}
	return list
}

// since counts the connections to each backend of a port since its shares came
// into force. Backends that the kernel cannot tell apart, because they are the
// same cluster or because both do not exist, divide what was counted for them.
func (c *counts) since(p *plan.ServicePort, record Record) []float64 {
	weights := make(map[Choice]float64)
	for _, b := range p.Backends {
		for _, choice := range choices(p, b) {
			weights[choice] += float64(b.Weight)
		}
	}
	out := make([]float64, len(p.Backends))
	for i, b := range p.Backends {
		for _, choice := range choices(p, b) {
			// Counters of endpoints long unused may have been forgotten.
			now, base := c.openedAt(choice), record.Opened[choice]
			if weights[choice] > 0 && now > base {
				out[i] += float64(now-base) * float64(b.Weight) / weights[choice]
			}
		}
	}
	return out
}

func (c *counts) openedAt(choice Choice) uint64 {
	if choice.Cluster == 0 {
		return c.refused[choice.Service][bpf.ReasonBackendMissing]
	}
	return c.choices[choice].Opened
}

// choices are a backend's kernel ids in both address families.
func choices(p *plan.ServicePort, b plan.Backend) []Choice {
	var out []Choice
	for family, service := range p.IDs {
		if service != 0 {
			out = append(out, Choice{service, b.IDs[family]})
		}
	}
	return out
}

func backend(v *View, c *counts, p *plan.ServicePort, b plan.Backend) api.Backend {
	out := api.Backend{Backend: b.Backend, Cluster: b.Cluster, Weight: b.Weight, Share: b.Share, Problem: b.Problem, Endpoints: []api.Endpoint{}}
	for family, service := range p.IDs {
		cluster := b.IDs[family]
		if service == 0 || cluster == 0 {
			continue
		}
		sum := c.choices[Choice{service, cluster}]
		out.Opened += sum.Opened
		out.Established += sum.Established
		out.Open += open(sum)
		for _, e := range v.Index.Endpoints(cluster) {
			out.Endpoints = append(out.Endpoints, c.endpoint(e, cluster, c.ofService[serviceEndpoint{service, endpointKey{cluster, e.Address}}]))
		}
	}
	return out
}

// endpoint is one that is programmed, in the kernel's cluster of this id.
func (c *counts) endpoint(e plan.Endpoint, cluster uint64, sum bpf.StatVal) api.Endpoint {
	out := endpoint(e, sum)
	out.EjectedSeconds = c.ejected[endpointKey{cluster, e.Address}].Seconds()
	return out
}

func endpoint(e plan.Endpoint, sum bpf.StatVal) api.Endpoint {
	return api.Endpoint{
		Address: e.Address.String(), Node: e.Node, Zone: e.Zone, Workload: e.Workload,
		Draining: e.Draining, Used: e.Used, Opened: sum.Opened, Open: open(sum),
	}
}

func refused(c *counts, p *plan.ServicePort) []api.Count {
	sums := make(map[bpf.Reason]uint64)
	for _, service := range p.IDs {
		if service == 0 {
			continue
		}
		for reason, n := range c.refused[service] {
			sums[reason] += n
		}
	}
	var out []api.Count
	for _, reason := range slices.Sorted(maps.Keys(sums)) {
		out = append(out, api.Count{Name: reason.String(), Count: sums[reason]})
	}
	return out
}

// ids renders the kernel ids of both address families as the maps show them.
func ids(list [2]uint64) string {
	text := ""
	for _, id := range list {
		if id == 0 {
			continue
		}
		if text != "" {
			text += ","
		}
		text += fmt.Sprintf("%016x", id)
	}
	return text
}

// Clusters lists the clusters that the control plane sent, whether a service
// uses them or not.
func Clusters(v *View, t Tables) ([]api.Cluster, error) {
	out := []api.Cluster{}
	if v == nil {
		return out, nil
	}
	c, err := readCounts(t)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(v.Snapshot.Clusters)) {
		out = append(out, cluster(v, c, v.Snapshot.Clusters[name]))
	}
	return out, nil
}

func cluster(v *View, c *counts, s state.Cluster) api.Cluster {
	out := api.Cluster{Name: s.Name, Locality: locality(s.Locality), Endpoints: []api.Endpoint{}}
	var programmed [2]uint64
	for family, v6 := range [2]bool{false, true} {
		id := plan.ClusterID(s.Name, v6)
		if _, ok := v.Contents.Clusters[id]; !ok {
			continue
		}
		programmed[family] = id
		for _, e := range v.Index.Endpoints(id) {
			out.Endpoints = append(out.Endpoints, c.endpoint(e, id, c.endpoints[endpointKey{id, e.Address}]))
		}
	}
	out.ID = ids(programmed)
	for _, e := range s.Endpoints { // of a family, or a cluster, that nothing here uses
		if family := b2i(e.Address.Addr().Is6()); programmed[family] == 0 {
			out.Endpoints = append(out.Endpoints, endpoint(plan.Endpoint{Endpoint: e}, bpf.StatVal{}))
		}
	}
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func locality(l state.Locality) string {
	switch l {
	case state.PreferSameZone:
		return "PreferSameZone"
	case state.PreferSameNode:
		return "PreferSameNode"
	case state.OnlySameNode:
		return "OnlySameNode"
	}
	return "Any"
}

// Pods adds the traffic counters to the announced pods.
func Pods(pods []api.Pod, t Tables) ([]api.Pod, error) {
	stats, err := t.IfaceStats()
	if err != nil {
		return nil, err
	}
	for i := range pods {
		s, ok := stats[pods[i].Ifindex]
		if !ok || pods[i].Mode == "" {
			continue
		}
		pods[i].RxPackets, pods[i].RxBytes = s.RxPackets, s.RxBytes
		pods[i].TxPackets, pods[i].TxBytes = s.TxPackets, s.TxBytes
		pods[i].Dropped = s.Dropped
	}
	return pods, nil
}

// books are the reasons that count the connections of a mechanism.
var books = map[string]struct {
	served bpf.Reason
	left   []bpf.Reason // why others were not
}{
	"fast_path":     {bpf.ReasonFastPath, []bpf.Reason{bpf.ReasonFastFull, bpf.ReasonFastShare, bpf.ReasonFastBarred, bpf.ReasonFastTranslated, bpf.ReasonFastUntracked}},
	"socket_bypass": {bpf.ReasonBypassed, []bpf.Reason{bpf.ReasonBypassFull, bpf.ReasonBypassShare, bpf.ReasonBypassLate, bpf.ReasonBypassSlow}},
}

// Status adds the counters to what the node says of itself.
func Status(s api.AgentStatus, v *View, t Tables) (api.AgentStatus, error) {
	if v != nil {
		s.Services = len(v.Index.Ports)
		s.Endpoints = v.Contents.Slots()
	}
	reasons, err := t.Reasons()
	if err != nil {
		return s, err
	}
	for i, m := range s.Mechanisms {
		s.Mechanisms[i].Total = reasons[books[m.Name].served]
		for _, r := range books[m.Name].left {
			if n := reasons[r]; n > 0 {
				s.Mechanisms[i].Left = append(s.Mechanisms[i].Left, api.Count{Name: r.String(), Count: n, Meaning: r.Explain()})
			}
		}
	}
	for _, r := range bpf.Reasons() {
		if n := reasons[r]; n > 0 {
			s.Reasons = append(s.Reasons, api.Count{Name: r.String(), Count: n})
		}
	}
	return s, nil
}
