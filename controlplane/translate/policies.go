package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

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
