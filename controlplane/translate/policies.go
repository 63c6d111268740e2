package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/controlplane/model"
)

// target is what one policy can have for itself: a Service, or a port of it.
type target struct {
	service  model.Key
	portName string // empty: all ports that no other policy names
}

// takePolicies lets the policies take their targets, the oldest first: for each
// target the first one decides alone (GEP-713), others are told that they lost.
func (b *build) takePolicies() {
	b.policies = make(map[target]*model.TrafficPolicy)
	for _, p := range slices.SortedFunc(maps.Values(b.Policies), policyAge) {
		object := "TrafficPolicy " + p.String()
		b.checkSettings(p)
		for _, t := range p.Targets {
			if detail := b.checkTarget(t); detail != "" {
				b.parentProblem(object, model.Parent{Service: t.Service, PortName: t.PortName}, "TargetNotFound", detail)
				continue
			}
			place := target{t.Service, t.PortName}
			if winner := b.policies[place]; winner != nil {
				b.parentProblem(object, model.Parent{Service: t.Service, PortName: t.PortName}, "Conflicted", fmt.Sprintf("TrafficPolicy %s already decides about %s: it is older, or first by name; remove one of them, or put the settings of both into one",
					winner.Key, describeTarget(t)))
				continue
			}
			b.policies[place] = p
		}
	}
}

func policyAge(x, y *model.TrafficPolicy) int {
	return cmp.Or(x.Created.Compare(y.Created), x.Key.Compare(y.Key))
}

// checkTarget returns why there is no such target; empty: there is.
func (b *build) checkTarget(t model.PolicyTarget) string {
	s := b.Services[t.Service]
	switch {
	case s == nil:
		return fmt.Sprintf("there is no Service %s", t.Service)
	case t.PortName == "":
		return ""
	case !slices.ContainsFunc(s.Ports, func(p model.ServicePort) bool { return p.Name == t.PortName }):
		return fmt.Sprintf("Service %s has no port named %s", t.Service, t.PortName)
	}
	return ""
}

func describeTarget(t model.PolicyTarget) string {
	if t.PortName != "" {
		return fmt.Sprintf("port %s of Service %s", t.PortName, t.Service)
	}
	return "Service " + t.Service.String()
}

// firstRetransmission is the earliest time at which a kernel looks at how long a
// connection has been coming about.
const firstRetransmission = time.Second

// checkSettings tells what nodes cannot do as it is written.
func (b *build) checkSettings(p *model.TrafficPolicy) {
	if p.ConnectTimeout > 0 && p.ConnectTimeout < firstRetransmission {
		b.problem("TrafficPolicy "+p.String(), "NotSupported", fmt.Sprintf("connectTimeout %s takes effect as %s: before its first retransmission the kernel does not look; set %[2]s or more",
			p.ConnectTimeout, firstRetransmission))
	}
}

// l4 is what the policy asks of TCP connections to the cluster; nil: nothing.
func (c *cluster) l4() *xds.ClusterPolicy {
	p := c.policy
	if p == nil || c.port.Protocol != model.TCP || p.ConnectTimeout == 0 && p.MaxConnections == 0 && p.Outlier == nil {
		return nil
	}
	m := &xds.ClusterPolicy{
		ConnectTimeoutMs: uint32(p.ConnectTimeout.Milliseconds()),
		MaxConnections:   p.MaxConnections,
	}
	if o := p.Outlier; o != nil {
		m.Outlier = &xds.OutlierDetection{
			ConsecutiveFailures: o.ConsecutiveFailures,
			EjectionMs:          uint32(o.Ejection.Milliseconds()),
			MaxEjectionPercent:  o.MaxEjectionPercent,
		}
	}
	return m
}

// policy returns the policy in effect for a port of a Service: the one that names
// the port, else the one for the whole Service; nil when there is none.
func (b *build) policy(service model.Key, portName string) *model.TrafficPolicy {
	if portName != "" {
		if p := b.policies[target{service, portName}]; p != nil {
			return p
		}
	}
	return b.policies[target{service, ""}]
}
