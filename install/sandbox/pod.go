package sandbox

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// admitPod refuses what a pod of the sandbox cannot be, and returns what of it
// is left out, for a warning.
func admitPod(pod *corev1.Pod) (ignored []string, err error) {
	who := "Pod " + pod.Namespace + "/" + pod.Name
	if len(pod.Spec.Containers) == 0 {
		return nil, fmt.Errorf("%s: spec.containers is required", who)
	}
	if len(pod.Spec.InitContainers) > 0 {
		return nil, fmt.Errorf("%s: the sandbox runs spec.containers only; put what the initContainers do into the command", who)
	}
	for _, c := range pod.Spec.Containers {
		if len(c.Command) == 0 {
			return nil, fmt.Errorf("%s: container %s needs a command: the sandbox pulls no image, it runs programs of this machine", who, c.Name)
		}
		if len(c.VolumeMounts) > 0 {
			ignored = append(ignored, "volumeMounts of container "+c.Name)
		}
		if len(c.EnvFrom) > 0 {
			ignored = append(ignored, "envFrom of container "+c.Name)
		}
	}
	if name := pod.Spec.NodeName; name != "" && findNode(name) == nil {
		return nil, fmt.Errorf("%s: %w", who, noNode(name))
	}
	return ignored, nil
}

// specHash recognises a spec that was applied before.
func specHash(spec *corev1.PodSpec) (string, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// place gives a new pod its node and its number there.
func (st *state) place(pod *corev1.Pod) (*podState, error) {
	if len(st.Pods) >= MaxPods {
		return nil, fmt.Errorf("the sandbox has %d pods, which is its limit: delete some", MaxPods)
	}
	hash, err := specHash(&pod.Spec)
	if err != nil {
		return nil, fmt.Errorf("Pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	p := &podState{
		Namespace: pod.Namespace, Name: pod.Name, Node: pod.Spec.NodeName,
		HostNetwork: pod.Spec.HostNetwork, Spec: hash, Phase: phaseStarting,
	}
	if p.Node == "" {
		p.Node = st.leastLoaded()
	}
	n := findNode(p.Node)
	addrs := n.addresses()
	if !p.HostNetwork {
		number, ok := nextFree(st.Nodes[p.Node].LastPod, firstPodNumber, lastPodNumber, func(number int) bool {
			for _, other := range st.Pods {
				if other.Node == p.Node && other.Number == number {
					return true
				}
			}
			return false
		})
		if !ok {
			return nil, fmt.Errorf("every address of %s is taken", n.podNets()[0])
		}
		p.Number = number
		st.Nodes[p.Node].LastPod = number
		addrs = n.podAddresses(number)
	}
	for _, a := range families(addrs) {
		p.Addresses = append(p.Addresses, a.String())
	}
	return p, nil
}

// leastLoaded is the node with the fewest pods, the first of equals.
func (st *state) leastLoaded() string {
	count := map[string]int{}
	for _, p := range st.Pods {
		count[p.Node]++
	}
	return slices.MinFunc(nodes, func(a, b node) int { return count[a.name] - count[b.name] }).name
}

// Phases of a pod here: those of its status, and one before all of them.
const (
	phaseStarting  = "Starting"
	phaseRunning   = "Running"
	phaseSucceeded = "Succeeded"
	phaseFailed    = "Failed"
)

// describePod writes what is known of a pod into its object: what kubelet
// reports to the API server.
func describePod(pod *corev1.Pod, p *podState, now time.Time) {
	pod.Spec.NodeName = p.Node
	for i := range pod.Spec.Containers {
		for j := range pod.Spec.Containers[i].Ports {
			fill(&pod.Spec.Containers[i].Ports[j].Protocol, corev1.ProtocolTCP)
		}
	}
	status := &pod.Status
	status.Phase = corev1.PodPhase(p.Phase)
	if p.Phase == phaseStarting {
		status.Phase = corev1.PodPending
	}
	status.Reason, status.Message = "", p.Reason
	status.PodIPs, status.HostIPs = nil, nil
	for _, a := range p.Addresses {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: a})
	}
	for _, a := range families(findNode(p.Node).addresses()) {
		status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: a.String()})
	}
	status.PodIP, status.HostIP = status.PodIPs[0].IP, status.HostIPs[0].IP
	if status.StartTime == nil {
		status.StartTime = &metav1.Time{Time: now.UTC().Truncate(time.Second)}
	}
	for _, c := range []struct {
		kind corev1.PodConditionType
		on   bool
	}{
		{corev1.PodScheduled, true},
		{corev1.PodInitialized, true},
		{corev1.ContainersReady, p.Ready},
		{corev1.PodReady, p.Ready},
	} {
		setCondition(status, c.kind, c.on, now)
	}
}

func setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, on bool, now time.Time) {
	value := corev1.ConditionFalse
	if on {
		value = corev1.ConditionTrue
	}
	i := slices.IndexFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if i >= 0 && status.Conditions[i].Status == value {
		return
	}
	c := corev1.PodCondition{Type: kind, Status: value, LastTransitionTime: metav1.NewTime(now.UTC().Truncate(time.Second))}
	if i < 0 {
		status.Conditions = append(status.Conditions, c)
	} else {
		status.Conditions[i] = c
	}
}

// Pod is a pod of the sandbox, for those who look at it from outside.
type Pod struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Node      string       `json:"node"`
	Addresses []netip.Addr `json:"addresses"`
	Phase     string       `json:"phase"` // Starting, Running, Succeeded, Failed
	Ready     bool         `json:"ready"`
	Reason    string       `json:"reason,omitempty"`
	Processes []Process    `json:"processes,omitempty"` // one per container
	Netns     string       `json:"netns"`               // path
	Interface string       `json:"interface,omitempty"` // in the node's namespace; none with hostNetwork
	Cgroup    string       `json:"cgroup"`              // directory
	Dir       string       `json:"dir"`                 // working directory
}

// Alive reports whether every process of the pod runs.
func (p *Pod) Alive() bool {
	for i := range p.Processes {
		if !p.Processes[i].Alive() {
			return false
		}
	}
	return len(p.Processes) > 0
}

// Pods lists the pods, by namespace and name.
func (s *Sandbox) Pods() ([]Pod, error) {
	st, err := s.read()
	if err != nil {
		return nil, err
	}
	root, err := s.cgroupRoot()
	if err != nil {
		return nil, err
	}
	out := make([]Pod, 0, len(st.Pods))
	for _, p := range st.Pods {
		out = append(out, s.show(p, root))
	}
	slices.SortFunc(out, func(a, b Pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

// Pod is one pod.
func (s *Sandbox) Pod(namespace, name string) (*Pod, error) {
	st, err := s.read()
	if err != nil {
		return nil, err
	}
	root, err := s.cgroupRoot()
	if err != nil {
		return nil, err
	}
	p := st.Pods[namespace+"/"+name]
	if p == nil {
		return nil, noPod(namespace+"/"+name, s.opt.Name)
	}
	out := s.show(p, root)
	return &out, nil
}

func (s *Sandbox) show(p *podState, root string) Pod {
	out := Pod{
		Namespace: p.Namespace, Name: p.Name, Node: p.Node, Phase: p.Phase,
		Ready: p.Ready, Reason: p.Reason, Dir: p.Dir,
		Netns: netnsPath(s.netnsOf(p)), Cgroup: podCgroup(root, p),
	}
	if !p.HostNetwork {
		out.Interface = p.interfaceName()
	}
	for _, a := range p.Addresses {
		out.Addresses = append(out.Addresses, netip.MustParseAddr(a))
	}
	for _, proc := range p.Processes {
		out.Processes = append(out.Processes, proc.Process)
	}
	return out
}

// CPU is what the processes of the pod have used so far, with those started by
// Command.
func (p *Pod) CPU() (time.Duration, error) { return cpuTime(p.Cgroup) }

// CPU is what everything in the sandbox has used so far: pods, agents and the
// controller.
func (s *Sandbox) CPU() (time.Duration, error) {
	root, err := s.cgroupRoot()
	if err != nil {
		return 0, err
	}
	return cpuTime(root)
}
