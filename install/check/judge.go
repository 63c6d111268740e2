package check

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"

	"heddle.io/heddle/install/kube"
)

// How a line turned out. A warning does not keep Heddle from working.
const (
	OK   = "ok"
	Warn = "warn"
	Fail = "fail"
)

// A Line is one thing that was looked at.
type Line struct {
	Check  string `json:"check"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"` // what to do about it
}

// Failed reports whether any line failed.
func Failed(lines []Line) bool {
	return slices.ContainsFunc(lines, func(l Line) bool { return l.State == Fail })
}

const (
	minServer = "1.30.0" // securityContext.appArmorProfile
	minKernel = "5.15.0"
	maxNamed  = 5 // of one kind, in one line
)

// Before judges what has to be so before Heddle is installed.
func Before(f *Facts) []Line {
	lines := []Line{server(f)}
	if f.ServerErr != nil {
		return lines
	}
	lines = append(lines, rights(f), kernels(f), runtimes(f), gateway(f), security(f))
	return append(lines, others(f)...)
}

func server(f *Facts) Line {
	const name = "API server"
	if f.ServerErr != nil {
		return Line{name, Fail, f.ServerErr.Error(), "check the kubeconfig, --context and the network"}
	}
	if tooOld(f.Server, minServer) {
		return Line{name, Fail, "Kubernetes " + f.Server + " is too old", "upgrade to 1.30 or newer"}
	}
	return Line{name, OK, "Kubernetes " + f.Server, ""}
}

func rights(f *Facts) Line {
	const name = "rights to install"
	switch {
	case f.RightsErr != nil:
		return Line{name, Warn, "cannot be looked up: " + f.RightsErr.Error(), "go on; the installation says what is missing"}
	case len(f.Denied) > 0:
		return Line{name, Fail, "you may not " + list(f.Denied), "install as a cluster administrator"}
	}
	return Line{name, OK, "all there", ""}
}

func kernels(f *Facts) Line {
	const name = "kernels"
	if f.NodesErr != nil {
		return Line{name, Warn, "cannot be looked up: " + f.NodesErr.Error(), "check that every node has Linux 5.15 or newer"}
	}
	var old, foreign []string
	oldest := ""
	for _, n := range f.Nodes {
		switch {
		case n.OS != "" && n.OS != "linux":
			foreign = append(foreign, n.Name+" ("+n.OS+")")
			continue
		case tooOld(kernel(n), minKernel):
			old = append(old, n.Name+" ("+n.Kernel+")")
		}
		if oldest == "" || tooOld(kernel(n), oldest) {
			oldest = kernel(n)
		}
	}
	if len(old) > 0 {
		return Line{name, Fail, "too old on " + list(old), "Linux 5.15 or newer is needed: upgrade these nodes, or keep pods of the mesh off them"}
	}
	detail := fmt.Sprintf("%d nodes, the oldest has %s", len(f.Nodes)-len(foreign), oldest)
	if len(foreign) > 0 {
		detail += "; left out: " + list(foreign)
	}
	return Line{name, OK, detail, ""}
}

// kernel is a node's release without what distributions append.
func kernel(n kube.Node) string {
	end := strings.IndexFunc(n.Kernel, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		end = len(n.Kernel)
	}
	return strings.TrimSuffix(n.Kernel[:end], ".")
}

func runtimes(f *Facts) Line {
	const name = "nodes"
	if f.NodesErr != nil {
		return Line{name, Warn, "cannot be looked up", "see above"}
	}
	var down, odd []string
	for _, n := range f.Nodes {
		if !n.Ready {
			down = append(down, n.Name)
		}
		if !strings.HasPrefix(n.Runtime, "containerd://") && !strings.HasPrefix(n.Runtime, "cri-o://") {
			odd = append(odd, n.Name+" ("+n.Runtime+")")
		}
	}
	switch {
	case len(f.Nodes) == 0:
		return Line{name, Fail, "there are none", "add a node"}
	case len(down) > 0:
		return Line{name, Warn, "not ready: " + list(down), "an installation waits for them: see kubectl describe node (a missing network plugin is the usual reason)"}
	case len(odd) > 0:
		return Line{name, Warn, "a runtime that Heddle is not tried with: " + list(odd), "try one node first; pods have to get their network from CNI plugins"}
	}
	return Line{name, OK, fmt.Sprintf("%d ready", len(f.Nodes)), ""}
}

// wanted are the kinds of Gateway API that Heddle programs, and the version in
// which it reads them.
var wanted = []string{"tcproutes", "tlsroutes", "referencegrants"}

func gateway(f *Facts) Line {
	const name = "Gateway API"
	if f.CRDsErr != nil {
		return Line{name, Warn, "cannot be looked up: " + f.CRDsErr.Error(), "see kubectl get crds"}
	}
	var missing, stale []string
	for _, kind := range wanted {
		versions, ok := f.CRDs[kind+".gateway.networking.k8s.io"]
		switch {
		case !ok:
			missing = append(missing, kind)
		case kind != "referencegrants" && !slices.Contains(versions, "v1"):
			stale = append(stale, kind+" ("+strings.Join(versions, ", ")+")")
		}
	}
	const do = "install them: heddlectl install --gateway-api-crds; without them Services work, routes do not"
	switch {
	case len(missing) > 0:
		return Line{name, Warn, "the cluster does not have " + list(missing), do}
	case len(stale) > 0:
		return Line{name, Warn, "an old release, without v1 of " + list(stale), do}
	}
	return Line{name, OK, "the routes that Heddle reads are there", ""}
}

const enforce = "pod-security.kubernetes.io/enforce"

func security(f *Facts) Line {
	const name = "PodSecurity"
	switch level, ok := f.SystemLabels[enforce]; {
	case f.SystemLabels == nil:
		return Line{name, OK, "the namespace " + f.System + " will be made, with level privileged for the agents", ""}
	case !ok || level == "privileged":
		return Line{name, OK, "namespace " + f.System + " admits the agents", ""}
	default:
		return Line{name, Fail, "namespace " + f.System + " enforces " + level + ", which the agents' hostNetwork, hostPID and host directories do not fit", "kubectl label namespace " + f.System + " --overwrite " + enforce + "=privileged"}
	}
}

// others are meshes that decide about the same connections.
func others(f *Facts) []Line {
	const name = "other meshes"
	if len(f.Meshes) == 0 {
		return []Line{{name, OK, "none found", ""}}
	}
	return []Line{{name, Warn, list(f.Meshes), "keep a namespace in one mesh only: leave heddle.io/mesh off those of the other"}}
}

// tooOld reports whether a version is below another; one that cannot be read is
// not.
func tooOld(have, least string) bool {
	h, errH := version.ParseGeneric(have)
	l, errL := version.ParseGeneric(least)
	return errH == nil && errL == nil && h.LessThan(l)
}

func list(names []string) string {
	if len(names) > maxNamed {
		return strings.Join(names[:maxNamed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxNamed)
	}
	return strings.Join(names, ", ")
}
