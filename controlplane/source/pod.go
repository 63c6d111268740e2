package source

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"heddle.io/heddle/controlplane/model"
)

func convertNamespace(in *corev1.Namespace) (*object, error) {
	return &object{Namespace: &model.Namespace{Name: in.Name, Mesh: in.Labels[model.MeshLabel]}}, nil
}

func convertNode(in *corev1.Node) (*object, error) {
	var c checks
	out := &model.Node{Name: in.Name, Zone: in.Labels[corev1.LabelTopologyZone]}
	c.name("metadata.labels["+corev1.LabelTopologyZone+"]", out.Zone, labelValue)
	return c.result(&object{Node: out})
}

func convertPod(in *corev1.Pod) (*object, error) {
	var c checks
	out := &model.Pod{
		Key:            key(in.Namespace, in.Name),
		UID:            podUID(in),
		Created:        in.CreationTimestamp.Time,
		Node:           in.Spec.NodeName,
		ServiceAccount: in.Spec.ServiceAccountName,
		Labels:         in.Labels,
		Addresses:      c.podAddresses(&in.Status),
		HostNetwork:    in.Spec.HostNetwork,
		Ready:          ready(&in.Status),
		Terminating:    in.DeletionTimestamp != nil,
		Finished:       in.Status.Phase == corev1.PodSucceeded || in.Status.Phase == corev1.PodFailed,
		Ports:          c.containerPorts(&in.Spec),
	}
	c.text("metadata.uid", out.UID)
	c.name("spec.nodeName", out.Node, validation.IsDNS1123Subdomain)
	c.name("spec.serviceAccountName", out.ServiceAccount, validation.IsDNS1123Subdomain)
	return c.result(&object{Pod: out})
}

// podUID is the uid that the pod has on its node. Of a static pod the API server
// has a mirror with a uid of its own, while the container runtime and the CNI
// plugins know it by the hash of its file.
func podUID(in *corev1.Pod) string {
	if hash := in.Annotations[corev1.MirrorPodAnnotationKey]; hash != "" {
		return hash
	}
	return string(in.UID)
}

func ready(status *corev1.PodStatus) bool {
	for _, condition := range status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// podAddresses reads at most one address of each family, as Kubernetes has it.
func (c *checks) podAddresses(status *corev1.PodStatus) []netip.Addr {
	texts := make([]string, 0, 2)
	for _, ip := range status.PodIPs {
		texts = append(texts, ip.IP)
	}
	if len(texts) == 0 && status.PodIP != "" {
		texts = append(texts, status.PodIP)
	}
	return c.onePerFamily("status.podIPs", texts)
}

func (c *checks) onePerFamily(field string, texts []string) []netip.Addr {
	var out []netip.Addr
	for i, text := range texts {
		a, ok := c.address(fmt.Sprintf("%s[%d]", field, i), text)
		if !ok {
			continue
		}
		for _, other := range out {
			if other.Is4() == a.Is4() {
				c.add(field, "%s and %s are of the same family, at most one address of each is possible", other, a)
				return nil
			}
		}
		out = append(out, a)
	}
	return out
}

// containerPorts returns the named ports of containers and of the init
// containers that keep running beside them.
func (c *checks) containerPorts(spec *corev1.PodSpec) []model.NamedPort {
	containers := spec.Containers
	for _, init := range spec.InitContainers {
		if init.RestartPolicy != nil && *init.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers[:len(containers):len(containers)], init)
		}
	}
	var out []model.NamedPort
	for _, container := range containers {
		for i, p := range container.Ports {
			field := fmt.Sprintf("container %s, ports[%d]", printable(container.Name), i)
			protocol := c.protocol(field+".protocol", p.Protocol)
			number, ok := c.port(field+".containerPort", p.ContainerPort)
			if ok && p.Name != "" {
				out = append(out, model.NamedPort{Name: p.Name, Port: number, Protocol: protocol})
			}
		}
	}
	return out
}
