package source

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"heddle.io/heddle/api/v1alpha1"
	"heddle.io/heddle/controlplane/model"
)

// Bounds of Heddle's own objects; their CRDs say the same, but files come without
// an API server, and objects may come from a newer CRD.
const (
	maxTargets    = 16
	maxConnLimit  = 1_000_000
	maxFailures   = 1000
	maxExempt     = 64
	minTimeout    = 10 * time.Millisecond
	maxTimeout    = 5 * time.Minute
	minEjection   = time.Second
	maxEjection   = time.Hour
	defaultEject  = 30 * time.Second
	defaultFails  = 5
	defaultEjectP = 50
)

func convertMeshConfig(in *v1alpha1.MeshConfig) (*object, error) {
	var c checks
	if in.Name != v1alpha1.MeshConfigName {
		c.add("metadata.name", "there is one MeshConfig for the cluster; its name must be %s", v1alpha1.MeshConfigName)
	}
	out := &model.MeshConfig{Generation: in.Generation}
	if start := in.Spec.PodStart; start != nil {
		switch start.WhenAgentDown {
		case "", v1alpha1.Wait:
		case v1alpha1.Drop:
			out.PodStart.Drop = true
		default:
			c.add("spec.podStart.whenAgentDown", "%s is not known, use Wait or Drop", printable(string(start.WhenAgentDown)))
		}
		if n := len(start.ExemptNamespaces); n > maxExempt {
			c.add("spec.podStart.exemptNamespaces", "there are %d, the limit is %d", n, maxExempt)
			return nil, c.err()
		}
		for i, namespace := range start.ExemptNamespaces {
			c.name(fmt.Sprintf("spec.podStart.exemptNamespaces[%d]", i), namespace, validation.IsDNS1123Label)
		}
		out.PodStart.ExemptNamespaces = slices.Compact(slices.Sorted(slices.Values(start.ExemptNamespaces)))
	}
	return c.result(&object{Mesh: out})
}

func convertPolicy(in *v1alpha1.TrafficPolicy) (*object, error) {
	var c checks
	out := &model.TrafficPolicy{
		Key:            key(in.Namespace, in.Name),
		Generation:     in.Generation,
		Created:        in.CreationTimestamp.Time,
		ConnectTimeout: c.duration("spec.connectTimeout", in.Spec.ConnectTimeout, 0, minTimeout, maxTimeout),
		MaxConnections: c.count("spec.maxConnections", in.Spec.MaxConnections, 0, 1, maxConnLimit),
		Outlier:        c.outlier(in.Spec.OutlierDetection),
		Locality:       c.policyLocality(in.Spec.Locality),
	}
	c.targets(out, in)
	s := &in.Spec
	if s.ConnectTimeout == nil && s.MaxConnections == nil && s.OutlierDetection == nil && s.Locality == nil {
		c.add("spec", "set at least one of connectTimeout, maxConnections, outlierDetection and locality")
	}
	return c.result(&object{Policy: out})
}

func (c *checks) targets(out *model.TrafficPolicy, in *v1alpha1.TrafficPolicy) {
	refs := in.Spec.TargetRefs
	if n := len(refs); n < 1 || n > maxTargets {
		c.add("spec.targetRefs", "there are %d, 1 to %d are possible", n, maxTargets)
		return
	}
	for i, ref := range refs {
		field := fmt.Sprintf("spec.targetRefs[%d]", i)
		if ref.Kind != serviceKind || ref.Group != "" && ref.Group != "core" {
			c.add(field, "a TrafficPolicy targets Services: group must be '' and kind must be 'Service'")
			continue
		}
		target := model.PolicyTarget{Service: c.reference(field, nil, ref.Name, out.Namespace)}
		if ref.SectionName != nil {
			target.PortName = string(*ref.SectionName)
			c.name(field+".sectionName", target.PortName, validation.IsDNS1123Subdomain)
		}
		if slices.Contains(out.Targets, target) {
			c.add(field, "Service %s, or its port, is targeted twice", target.Service)
		}
		out.Targets = append(out.Targets, target)
	}
}

func (c *checks) outlier(in *v1alpha1.OutlierDetection) *model.OutlierDetection {
	if in == nil {
		return nil
	}
	const field = "spec.outlierDetection"
	return &model.OutlierDetection{
		ConsecutiveFailures: c.count(field+".consecutiveConnectFailures", in.ConsecutiveConnectFailures, defaultFails, 1, maxFailures),
		Ejection:            c.duration(field+".ejectionTime", in.EjectionTime, defaultEject, minEjection, maxEjection),
		MaxEjectionPercent:  c.count(field+".maxEjectionPercent", in.MaxEjectionPercent, defaultEjectP, 0, 100),
	}
}

func (c *checks) policyLocality(in *v1alpha1.Locality) *model.Locality {
	if in == nil {
		return nil
	}
	var out model.Locality
	switch *in {
	case v1alpha1.LocalityAny:
	case v1alpha1.LocalityPreferSameZone:
		out = model.PreferSameZone
	case v1alpha1.LocalityPreferSameNode:
		out = model.PreferSameNode
	case v1alpha1.LocalityOnlySameNode:
		out = model.OnlySameNode
	default:
		c.add("spec.locality", "%s is not known, use Any, PreferSameZone, PreferSameNode or OnlySameNode", printable(string(*in)))
	}
	return &out
}

// duration reads an optional time span.
func (c *checks) duration(field string, text *v1alpha1.Duration, otherwise, least, most time.Duration) time.Duration {
	if text == nil {
		return otherwise
	}
	d, err := time.ParseDuration(string(*text))
	if err != nil {
		c.add(field, "%s is not a duration, write it as in 250ms or 1m30s", printable(string(*text)))
		return 0
	}
	if d < least || d > most {
		c.add(field, "%s, use %s to %s", d, least, most)
	}
	return d
}

// count reads an optional number.
func (c *checks) count(field string, n *int32, otherwise, least, most uint32) uint32 {
	if n == nil {
		return otherwise
	}
	if *n < 0 || uint32(*n) < least || uint32(*n) > most {
		c.add(field, "%d, use %d to %d", *n, least, most)
		return 0
	}
	return uint32(*n)
}
