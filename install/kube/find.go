package kube

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Labels: of Heddle's own pods
const (
	labelName      = "app.kubernetes.io/name=heddle"
	labelComponent = "app.kubernetes.io/component="

	labelMesh = "heddle.io/mesh=enabled" // of namespaces
)

// A Pod is a pod of the cluster.
type Pod struct {
	Namespace, Name string
	Node            string // empty: not scheduled yet
	Addresses       []string
	HostNetwork     bool
	Container       string // the first one
	Started         time.Time
	// Why nobody answers in it; empty: its first container runs.
	Down string
	// Restarted says that this container ran before: Logs has that run too.
	Restarted bool
}

// A Node is a node of the cluster.
type Node struct {
	Name, Kubelet, Kernel, Runtime, OS string
	Ready                              bool
}

// A Service is a service of the cluster, as far as a connection needs it.
type Service struct {
	Namespace, Name string
	Addresses       []string
	Ports           []ServicePort
}

// A ServicePort is one port of a Service.
type ServicePort struct {
	Name, Protocol string
	Port           uint16
}

// Agents are the agents' pods, sorted by node.
func (c *Cluster) Agents(ctx context.Context) ([]Pod, error) { return c.own(ctx, "agent", "") }

// AgentOn is the agent's pod of a node; it is an error when there is none.
func (c *Cluster) AgentOn(ctx context.Context, node string) (*Pod, error) {
	pods, err := c.own(ctx, "agent", "spec.nodeName="+node)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("no agent on node %s: pods there are not in the mesh (kubectl -n %s get daemonset heddle-agent)", node, c.system)
	}
	return &pods[0], nil
}

// Controllers are the controller's pods.
func (c *Cluster) Controllers(ctx context.Context) ([]Pod, error) {
	return c.own(ctx, "controller", "")
}

// Leader is the pod of the controller that writes status, empty when none does.
func (c *Cluster) Leader(ctx context.Context) (string, error) {
	r := Resource{Group: "coordination.k8s.io", Version: "v1", Name: "leases", Namespace: c.system}
	lease, err := object[coordinationv1.Lease](ctx, c, r, "heddle-controller")
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("find the controller that leads: %w", err)
	case lease.Spec.HolderIdentity == nil:
		return "", nil
	}
	// An identity is the pod's name, and perhaps "_" and something unique.
	pod, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	return pod, nil
}

// own finds pods of Heddle. While one is replaced a node has two: the one that
// answers, or else the younger, is its agent.
func (c *Cluster) own(ctx context.Context, component, fields string) ([]Pod, error) {
	list, err := list[corev1.Pod](ctx, c, Resource{
		Version: "v1", Name: "pods", Namespace: c.system,
		Labels: labelName + "," + labelComponent + component, Fields: fields,
	})
	if err != nil {
		return nil, fmt.Errorf("find the %ss: %w", component, err)
	}
	pods := make([]Pod, len(list))
	for i := range list {
		pods[i] = plain(&list[i])
	}
	slices.SortFunc(pods, func(a, b Pod) int {
		if o := strings.Compare(a.Node, b.Node); o != 0 {
			return o
		}
		if o := strings.Compare(a.Down, b.Down); o != 0 { // "" first
			return o
		}
		return b.Started.Compare(a.Started)
	})
	if component == "agent" {
		pods = slices.CompactFunc(pods, func(a, b Pod) bool { return a.Node == b.Node && a.Node != "" })
	}
	return pods, nil
}

func plain(p *corev1.Pod) Pod {
	out := Pod{
		Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName,
		HostNetwork: p.Spec.HostNetwork, Down: down(p),
	}
	if len(p.Spec.Containers) > 0 {
		out.Container = p.Spec.Containers[0].Name
	}
	if p.Status.StartTime != nil {
		out.Started = p.Status.StartTime.Time
	}
	for _, c := range p.Status.ContainerStatuses {
		out.Restarted = out.Restarted || c.Name == out.Container && c.RestartCount > 0
	}
	for _, ip := range p.Status.PodIPs {
		out.Addresses = append(out.Addresses, ip.IP)
	}
	return out
}

// down says why the first container of a pod does not run.
func down(p *corev1.Pod) string {
	for _, s := range p.Status.ContainerStatuses {
		switch {
		case len(p.Spec.Containers) == 0 || s.Name != p.Spec.Containers[0].Name:
		case s.State.Running != nil:
			return ""
		case s.State.Waiting != nil:
			return strings.TrimSuffix(s.State.Waiting.Reason+": "+s.State.Waiting.Message, ": ")
		case s.State.Terminated != nil:
			return fmt.Sprintf("ended with code %d: %s", s.State.Terminated.ExitCode, s.State.Terminated.Reason)
		}
	}
	if p.Spec.NodeName == "" {
		return "not scheduled on a node"
	}
	return "phase " + string(p.Status.Phase)
}

// Connect joins a command in a pod's first container; see Dial.
func (c *Cluster) Connect(ctx context.Context, p *Pod, command ...string) (net.Conn, error) {
	return Dial(ctx, c.config, p.Namespace, p.Name, p.Container, command)
}

// Nodes are the nodes of the cluster.
func (c *Cluster) Nodes(ctx context.Context) ([]Node, error) {
	list, err := list[corev1.Node](ctx, c, Resource{Version: "v1", Name: "nodes"})
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	out := make([]Node, len(list))
	for i := range list {
		n := &list[i]
		info := n.Status.NodeInfo
		out[i] = Node{Name: n.Name, Kubelet: info.KubeletVersion, Kernel: info.KernelVersion, Runtime: info.ContainerRuntimeVersion, OS: info.OperatingSystem}
		for _, cond := range n.Status.Conditions {
			out[i].Ready = out[i].Ready || cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue
		}
	}
	return out, nil
}

// MeshNamespaces are the names of the namespaces that are labelled to be in the
// mesh.
func (c *Cluster) MeshNamespaces(ctx context.Context) ([]string, error) {
	list, err := list[corev1.Namespace](ctx, c, Resource{Version: "v1", Name: "namespaces", Labels: labelMesh})
	if err != nil {
		return nil, fmt.Errorf("list the namespaces of the mesh: %w", err)
	}
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Name
	}
	return sorted(names), nil
}

// Pod reads a pod.
func (c *Cluster) Pod(ctx context.Context, namespace, name string) (*Pod, error) {
	p, err := object[corev1.Pod](ctx, c, Resource{Version: "v1", Name: "pods", Namespace: namespace}, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("the cluster has no pod %s/%s: check the name and the namespace (-n)", namespace, name)
	case err != nil:
		return nil, fmt.Errorf("read pod %s/%s: %w", namespace, name, err)
	}
	out := plain(p)
	return &out, nil
}

// Service reads a service.
func (c *Cluster) Service(ctx context.Context, namespace, name string) (*Service, error) {
	s, err := object[corev1.Service](ctx, c, Resource{Version: "v1", Name: "services", Namespace: namespace}, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("the cluster has no service %s/%s: check the name and the namespace (-n)", namespace, name)
	case err != nil:
		return nil, fmt.Errorf("read service %s/%s: %w", namespace, name, err)
	}
	out := &Service{Namespace: namespace, Name: name}
	for _, ip := range s.Spec.ClusterIPs {
		if ip != corev1.ClusterIPNone {
			out.Addresses = append(out.Addresses, ip)
		}
	}
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, ServicePort{p.Name, strings.ToLower(string(p.Protocol)), uint16(p.Port)})
	}
	return out, nil
}
