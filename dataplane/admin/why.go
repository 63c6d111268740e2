package admin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
)

// errUnknownPod is a question about a pod that is not here.
var errUnknownPod = errors.New("pod was not announced to this agent")

// errQuestion is a question that cannot be asked of the kernel.
var errQuestion = errors.New("invalid question")

// Why asks the kernel's own decision program what it would do with a
// connection, and lists the map entries that the decision read.
func Why(n Node, t Tables, q api.WhyRequest) (api.Why, error) {
	in, err := question(n, q)
	if err != nil {
		return api.Why{}, err
	}
	out, err := n.Decide(in)
	if err != nil {
		return api.Why{}, fmt.Errorf("asking the kernel: %w", err)
	}
	w := api.Why{
		Source:      q.Source,
		Destination: fmt.Sprintf("%s/%s", netip.AddrPortFrom(bpf.AddrOf(in.Addr), q.Port), q.Protocol),
		Verdict:     out.Verdict.String(),
		Reason:      out.Reason.String(),
		Explanation: out.Reason.Explain(),
	}
	if out.Verdict == bpf.VerdictTranslate {
		w.Endpoint = netip.AddrPortFrom(bpf.AddrOf(out.Addr), bpf.Port(out.PortBe)).String()
	}
	v := n.View()
	if v == nil {
		w.Read = []api.Lookup{}
		return w, nil
	}
	w.Read = (&walk{view: v, in: in, out: out}).lookups()
	p := v.Index.Service(out.Service)
	if p == nil {
		return w, nil
	}
	w.Service = fmt.Sprintf("%s:%d/%s", p.Resource, p.Port, p.Protocol)
	w.Route = p.Route
	c, err := readCounts(t)
	if err != nil {
		return w, err
	}
	w.Backends = backends(v, c, p, v.Records[PortKey{p.Resource, p.Port, p.Protocol}])
	return w, nil
}

// question turns a request into what the hooks would see.
func question(n Node, q api.WhyRequest) (bpf.ConnectIn, error) {
	addr, err := netip.ParseAddr(q.Address)
	if err != nil || addr.Zone() != "" {
		return bpf.ConnectIn{}, fmt.Errorf("%w: %q is not an IP address", errQuestion, q.Address)
	}
	if q.Port == 0 {
		return bpf.ConnectIn{}, fmt.Errorf("%w: port is 0", errQuestion)
	}
	in := bpf.ConnectIn{
		Rnd:    rand.Uint64(),
		Addr:   bpf.AddrFrom(addr),
		PortBe: bpf.PortBE(q.Port),
	}
	switch q.Protocol {
	case "tcp", "":
		in.Proto = unix.IPPROTO_TCP
	case "udp":
		in.Proto = unix.IPPROTO_UDP
	default:
		return in, fmt.Errorf("%w: protocol %q is neither tcp nor udp", errQuestion, q.Protocol)
	}
	pods := n.Pods()
	i := slices.IndexFunc(pods, func(p api.Pod) bool { return p.Namespace+"/"+p.Name == q.Source })
	if i < 0 {
		return in, fmt.Errorf("%w: %q", errUnknownPod, q.Source)
	}
	in.Netns = pods[i].Netns
	// What bpf_ktime_get_ns reads, for the age of an affinity.
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return in, fmt.Errorf("reading the clock: %w", err)
	}
	in.NowNs = uint64(now.Nano())
	return in, nil
}

// walk repeats the lookups of a decision in the order of bpf/src/decide.h, led
// by its outcome, over the contents that the agent put into the maps.
type walk struct {
	view *View
	in   bpf.ConnectIn
	out  bpf.ConnectOut
	read []api.Lookup
}

func (w *walk) lookups() []api.Lookup {
	w.read = []api.Lookup{}
	pod, ok := w.view.Contents.Pods[w.in.Netns]
	w.note(bpf.MapPods, w.in.Netns, pod, ok)
	if !ok {
		return w.read
	}
	service, ok := w.service(pod.Scope)
	if !ok {
		return w.read
	}
	if service.AffinityS != 0 && w.affinity(service) {
		return w.read
	}
	cluster := service.Cluster
	if service.Split != 0 {
		split, ok := w.view.Contents.Splits[service.Split]
		w.note(bpf.MapSplits, service.Split, split, ok)
		cluster = w.out.Cluster
	}
	if cluster != 0 {
		w.cluster(cluster)
	}
	return w.read
}

// service looks up the destination, and its variant for the pod's namespace.
func (w *walk) service(scope uint64) (bpf.ServiceVal, bool) {
	key := bpf.ServiceKey{Addr: w.in.Addr, PortBe: w.in.PortBe, Proto: w.in.Proto}
	service, ok := w.view.Contents.Services[key]
	w.note(bpf.MapServices, key, service, ok)
	if !ok || service.Flags&bpf.ServiceScoped == 0 {
		return service, ok
	}
	key.Scope = scope
	variant, there := w.view.Contents.Services[key]
	w.note(bpf.MapServices, key, variant, there)
	if there {
		return variant, true
	}
	return service, service.Flags&bpf.ServiceVariants == 0
}

// affinity reports whether the decision ended with the client's last endpoint.
func (w *walk) affinity(service bpf.ServiceVal) bool {
	key := plan.KeyText(bpf.MapAffinity, bpf.AffinityKey{Service: service.Service, Netns: w.in.Netns}, w.view.Index.Name)
	if w.out.Reason != bpf.ReasonAffinity {
		w.read = append(w.read, api.Lookup{Map: bpf.MapAffinity, Key: key,
			Value: fmt.Sprintf("(absent, older than %ds, or of an endpoint that is gone)", service.AffinityS)})
		return false
	}
	w.read = append(w.read, api.Lookup{Map: bpf.MapAffinity, Key: key, Value: w.endpoint()})
	member := bpf.MemberKey{Service: service.Service, Addr: w.out.Addr, PortBe: w.out.PortBe}
	val, ok := w.view.Contents.Members[member]
	w.note(bpf.MapMembers, member, val, ok)
	return true
}

func (w *walk) cluster(id uint64) {
	c, ok := w.view.Contents.Clusters[id]
	w.note(bpf.MapClusters, id, bpf.ClusterVal{Count: uint32(len(c.Endpoints)), Flags: c.Flags}, ok)
	if i := w.out.Index; i != bpf.None {
		var e bpf.EndpointVal
		ok := int(i) < len(c.Endpoints)
		if ok {
			e = c.Endpoints[i]
		}
		w.note(bpf.MapEndpoints, bpf.EndpointKey{Cluster: id, Index: i}, e, ok)
	}
}

// note adds a lookup; ids come out as names.
func (w *walk) note(table string, key, value any, found bool) {
	l := api.Lookup{Map: table, Key: plan.KeyText(table, key, w.view.Index.Name), Value: "(absent)"}
	if found {
		l.Value = plan.Text(value, w.view.Index.Name)
	}
	w.read = append(w.read, l)
}

func (w *walk) endpoint() string {
	return netip.AddrPortFrom(bpf.AddrOf(w.out.Addr), bpf.Port(w.out.PortBe)).String()
}
