package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"heddle.io/heddle/bpf"
)

// Names gives the name of a kernel id, "" when it is unknown; Index.Name is
// one. A nil Names knows nothing.
type Names func(id uint64) string

// text is the name of an id, or its 16 hexadecimal digits; none stands for 0.
func (n Names) text(id uint64, none string) string {
	if id == 0 {
		return none
	}
	if n != nil {
		if name := n(id); name != "" {
			return name
		}
	}
	return fmt.Sprintf("%016x", id)
}

// String is the operation in one line, ids in hexadecimal.
func (o Op) String() string { return o.Text(nil) }

// Text is the operation in one line: "+" adds, "=" replaces, "-" deletes.
func (o Op) Text(names Names) string {
	sign := "="
	switch {
	case o.Delete:
		sign = "-"
	case o.Insert:
		sign = "+"
	}
	text := sign + " " + o.Map + " " + KeyText(o.Map, o.Key, names)
	if !o.Delete {
		text += ": " + ValueText(o.Map, o.Value, names)
	}
	if o.Wait {
		text += " (after a wait)"
	}
	return text
}

// KeyText is a key of a map in one line.
func KeyText(table string, key any, names Names) string {
	if table == bpf.MapPods || table == bpf.MapOwn || table == bpf.MapShares {
		return fmt.Sprint(key) // the kernel's number, not an id of ours
	}
	return Text(key, names)
}

// ValueText is a value of a map in one line.
func ValueText(table string, value any, names Names) string {
	switch table {
	case bpf.MapBypass, bpf.MapShares, bpf.MapSocks, bpf.MapRefusals, bpf.MapOwn, bpf.MapFastUse:
		return fmt.Sprint(value) // a count, or a number of the kernel's
	}
	return Text(value, names)
}

// Text is a key struct or a value of a map in one line. A uint64 is taken as
// an id; types that are of no map come out as Go prints them.
func Text(v any, names Names) string {
	switch v := v.(type) {
	case uint64:
		return names.text(v, "0")
	case bpf.PodVal:
		return fmt.Sprintf("scope=%s ifindex=%d%s", names.text(v.Scope, "0"), v.Ifindex, podFlags(v.Flags))
	case bpf.Addr:
		return bpf.AddrOf(v).String()
	case bpf.ServiceKey:
		return fmt.Sprintf("%s/%s scope=%s", at(v.Addr, v.PortBe), protocol(v.Proto), names.text(v.Scope, "*"))
	case bpf.ServiceVal:
		return serviceText(v, names)
	case bpf.SplitVal:
		return splitText(v, names)
	case bpf.ClusterVal:
		return fmt.Sprintf("count=%d%s%s", v.Count, clusterFlags(v.Flags), policyOf(v).text())
	case bpf.EndpointKey:
		return fmt.Sprintf("%s[%d]", names.text(v.Cluster, "0"), v.Index)
	case bpf.EndpointVal:
		return at(v.Addr, v.PortBe)
	case bpf.MemberKey:
		return fmt.Sprintf("%s %s", names.text(v.Service, "0"), at(v.Addr, v.PortBe))
	case bpf.MemberVal:
		return names.text(v.Cluster, "0")
	case bpf.IfaceVal:
		return ifaceText(v)
	case bpf.IfaceStat:
		return fmt.Sprintf("rx=%d/%dB tx=%d/%dB dropped=%d", v.RxPackets, v.RxBytes, v.TxPackets, v.TxBytes, v.Dropped)
	}
	return memoryText(v, names)
}

// memoryText is for what the programs write down.
func memoryText(v any, names Names) string {
	switch v := v.(type) {
	case bpf.AffinityKey:
		return fmt.Sprintf("%s netns=%d", names.text(v.Service, "0"), v.Netns)
	case bpf.AffinityVal:
		return fmt.Sprintf("%s last=%dns", at(v.Addr, v.PortBe), v.LastNs)
	case bpf.FlowKey:
		return fmt.Sprintf("netns=%d %s > %s", v.Netns, at(v.Src, v.SrcPortBe), at(v.Dst, v.DstPortBe))
	case bpf.FlowVal:
		return at(v.ServiceAddr, v.ServicePortBe)
	case bpf.StatKey:
		return fmt.Sprintf("%s %s %s", names.text(v.Service, "0"), names.text(v.Cluster, "missing"), at(v.Addr, v.PortBe))
	case bpf.StatVal:
		return fmt.Sprintf("opened=%d established=%d closed=%d", v.Opened, v.Established, v.Closed)
	case bpf.LoadVal:
		return fmt.Sprintf("open=%d ejected=%d until=%dns", v.Open, v.Ejected, v.UntilNs)
	case bpf.OutlierKey:
		return fmt.Sprintf("%s %s", names.text(v.Cluster, "0"), at(v.Addr, v.PortBe))
	case bpf.OutlierVal:
		return fmt.Sprintf("failures=%d until=%dns", v.Failures, v.UntilNs)
	case bpf.SockKey:
		return fmt.Sprintf("netns=%d %s > %s", v.Netns, at(v.Local, v.LocalPortBe), at(v.Remote, v.RemotePortBe))
	case bpf.CreditVal:
		return fmt.Sprintf("waiting=%dB", v.Waiting)
	case bpf.RefusalKey:
		return fmt.Sprintf("%s %s", names.text(v.Service, "0"), v.Reason)
	case bpf.FastKey:
		return fmt.Sprintf("%s - %s", at(v.Addr[0], v.PortBe[0]), at(v.Addr[1], v.PortBe[1]))
	case bpf.FastVal:
		return fmt.Sprintf("interfaces=%d,%d opener=%d closing=%#x", v.End[0].Ifindex, v.End[1].Ifindex, v.Client, v.Closing)
	case bpf.EndedVal:
		return fmt.Sprintf("interfaces=%d,%d ended=%dns", v.Flow.End[0].Ifindex, v.Flow.End[1].Ifindex, v.AtNs)
	case bpf.HandshakeVal:
		return fmt.Sprintf("from=%d to=%d answered=%d", v.ClientIfindex, v.ServerIfindex, v.Answered)
	}
	return fmt.Sprint(v)
}

func serviceText(v bpf.ServiceVal, names Names) string {
	if v.Flags&bpf.ServiceVariants != 0 {
		return "for some scopes only"
	}
	text := "service=" + names.text(v.Service, "0")
	if v.Split != 0 {
		text += " split=" + names.text(v.Split, "0")
	} else {
		text += " cluster=" + names.text(v.Cluster, "missing")
	}
	if v.AffinityS != 0 {
		text += fmt.Sprintf(" affinity=%ds", v.AffinityS)
	}
	if v.Flags&bpf.ServiceScoped != 0 {
		text += " scoped"
	}
	return text
}

// splitText shows a column as cluster:cut, and >other for the rest of it.
func splitText(v bpf.SplitVal, names Names) string {
	text := fmt.Sprintf("total=%d", v.Total)
	for _, c := range v.Column[:min(int(v.Columns), bpf.MaxColumns)] {
		text += fmt.Sprintf(" %s:%d", names.text(c.Cluster, "missing"), c.Cut)
		if c.Cut < v.Total && int(c.Alias) < bpf.MaxColumns {
			text += ">" + names.text(v.Column[c.Alias].Cluster, "missing")
		}
	}
	return text
}

func ifaceText(v bpf.IfaceVal) string {
	text := fmt.Sprintf("netns=%d", v.Netns)
	for _, a := range v.Addr[:min(int(v.AddrCount), bpf.MaxPodAddrs)] {
		text += " " + bpf.AddrOf(a).String()
	}
	if v.Flags&bpf.IfaceFast != 0 {
		text += " fast"
	}
	if v.Flags&bpf.IfaceTracked != 0 {
		text += " tracked"
	}
	return text
}

func podFlags(f bpf.PodFlag) string {
	if f&bpf.PodBypass != 0 {
		return " bypass"
	}
	return ""
}

func clusterFlags(f bpf.ClusterFlag) string {
	text := ""
	if f&bpf.ClusterLocalOnly != 0 {
		text += " local-only"
	}
	if f&Broken != 0 {
		text += " broken"
	}
	return text
}

func (p Policy) text() (text string) {
	if p.ConnectTimeoutMs > 0 {
		text += fmt.Sprintf(" timeout=%dms", p.ConnectTimeoutMs)
	}
	if p.MaxConnections > 0 {
		text += fmt.Sprintf(" max=%d", p.MaxConnections)
	}
	if p.MaxFailures > 0 {
		text += fmt.Sprintf(" eject=%d/%dms max-ejected=%d", p.MaxFailures, p.EjectionMs, p.MaxEjected)
	}
	return text
}

func at(a bpf.Addr, portBE uint16) string {
	return netip.AddrPortFrom(bpf.AddrOf(a), bpf.Port(portBE)).String()
}

func protocol(p uint8) string {
	switch p {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	}
	return fmt.Sprintf("protocol%d", p)
}

// Text lists the contents, table by table, in order of address and name.
func (c *Contents) Text(names Names) string {
	var b strings.Builder
	table(&b, bpf.MapPods, c.Pods, cmp.Compare, func(k uint64, v bpf.PodVal) string {
		return fmt.Sprintf("%d: %s", k, Text(v, names))
	})
	table(&b, bpf.MapIfaces, c.Ifaces, cmp.Compare, func(k uint32, v bpf.IfaceVal) string {
		return fmt.Sprintf("%d: %s", k, Text(v, names))
	})
	table(&b, bpf.MapBypass, c.Bypass, compareAddrs, func(k bpf.Addr, v uint64) string {
		return fmt.Sprintf("%s: %d", Text(k, names), v)
	})
	table(&b, bpf.MapServices, c.Services, compareServices, func(k bpf.ServiceKey, v bpf.ServiceVal) string {
		return Text(k, names) + ": " + Text(v, names)
	})
	byName := func(x, y uint64) int { return cmp.Compare(names.text(x, ""), names.text(y, "")) }
	table(&b, bpf.MapSplits, c.Splits, byName, func(k uint64, v bpf.SplitVal) string {
		return Text(k, names) + ": " + Text(v, names)
	})
	table(&b, bpf.MapClusters, c.Clusters, byName, func(k uint64, v Cluster) string {
		text := fmt.Sprintf("%s: count=%d%s", Text(k, names), len(v.Endpoints), clusterFlags(v.Flags)) + v.Policy.text()
		for _, e := range v.Endpoints {
			text += " " + Text(e, names)
		}
		return text
	})
	byMember := func(x, y bpf.MemberKey) int {
		return cmp.Or(byName(x.Service, y.Service), bytes.Compare(x.Addr.B[:], y.Addr.B[:]), compareMembers(x, y))
	}
	table(&b, bpf.MapMembers, c.Members, byMember, func(k bpf.MemberKey, v bpf.MemberVal) string {
		return Text(k, names) + ": " + Text(v, names)
	})
	return b.String()
}

// table writes a map as a heading and one line for each element; nothing when
// it is empty.
func table[K comparable, V any](b *strings.Builder, name string, m map[K]V, order func(x, y K) int, line func(K, V) string) {
	if len(m) == 0 {
		return
	}
	b.WriteString(name + "\n")
	for _, key := range slices.SortedFunc(maps.Keys(m), order) {
		b.WriteString("  " + line(key, m[key]) + "\n")
	}
}
