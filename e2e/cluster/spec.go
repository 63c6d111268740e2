package cluster

import (
	"fmt"
	"path/filepath"
	"strings"
)

// A nodeSpec is all that the processes of a node are told. It travels as the
// argument of the stages that become the node.
type nodeSpec struct {
	Index       int
	Name        string   // node1
	Cgroups     []string // the node's own, one in every hierarchy of the machine
	Hybrid      bool
	DualStack   bool
	Proxy       string
	Disk        string // directory: what stays when the node starts again
	Log         string // directory
	Bin         string
	Runtime     string // directory of containerd and runc; empty: Debian's
	CNI         string // directory of the plugins
	Keys        string // directory of the kubeconfigs
	KubeletArgs []string
}

// kubeconfig is the file of a user.
func (s *nodeSpec) kubeconfig(user string) string { return filepath.Join(s.Keys, user+".conf") }

// path is where the node looks for programs.
func (s *nodeSpec) path() string {
	const usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if s.Runtime == "" {
		return usual
	}
	return s.Runtime + ":" + usual
}

// ctr is the client of the node's containerd.
func (s *nodeSpec) ctr() string { return filepath.Join(s.Runtime, "ctr") }

// runtime is the OCI runtime of the node.
func (s *nodeSpec) runtime() string {
	if s.Hybrid {
		return "runc"
	}
	return filepath.Join(s.Bin, "runtime")
}

func (s *nodeSpec) kubelet() []string {
	args := []string{
		filepath.Join(s.Bin, "kubelet"),
		"--config=" + kubeletConfig, "--kubeconfig=" + s.kubeconfig(s.Name), "--hostname-override=" + s.Name,
		"--node-ip=" + join(s.DualStack, nodeIP(s.Index), nodeIP6(s.Index)),
	}
	return append(args, s.KubeletArgs...)
}

func (s *nodeSpec) proxy() []string {
	return []string{
		filepath.Join(s.Bin, "kube-proxy"),
		"--kubeconfig=" + s.kubeconfig("proxy"), "--hostname-override=" + s.Name, "--proxy-mode=" + s.Proxy,
		"--cluster-cidr=" + join(s.DualStack, pods, pods6),
		// 0 leaves these sysctls as they are: they are the machine's.
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	}
}

const (
	containerdConfig = "/run/containerd/config.toml"
	containerdSocket = "/run/containerd/containerd.sock"
	kubeletConfig    = "/run/kubelet.yaml"
)

// containerd configures the container runtime. To lower an OOM score takes a
// capability that not every root has, so scores are left alone.
func (s *nodeSpec) containerd() string {
	return fmt.Sprintf(`version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = %q
      SystemdCgroup = false
`, PauseImage, s.runtime())
}

// kubeletFile configures the kubelet. The first three lines after the kind are
// for containerd 1.6, which cannot say which driver it uses, and for v1.
func (s *nodeSpec) kubeletFile() string {
	return `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://` + containerdSocket + `
cgroupDriver: cgroupfs
failCgroupV1: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDNS: [` + DNS + `]
clusterDomain: cluster.local
resolvConf: /run/resolv.conf
oomScoreAdj: 0
failSwapOn: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
fileCheckFrequency: 5s
serializeImagePulls: false
shutdownGracePeriod: 0s
`
}

// conflist is how pods get their network: an interface to the node's namespace
// and an address of the node's range, without NAT.
func (s *nodeSpec) conflist() string {
	ranges := []string{fmt.Sprintf(`[{"subnet": %q}]`, podCIDR(s.Index))}
	routes := []string{`{"dst": "0.0.0.0/0"}`}
	if s.DualStack {
		ranges = append(ranges, fmt.Sprintf(`[{"subnet": %q}]`, podCIDR6(s.Index)))
		routes = append(routes, `{"dst": "::/0"}`)
	}
	return fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "e2e", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "/var/lib/cni/networks",
    "ranges": [%s], "routes": [%s]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
`, strings.Join(ranges, ", "), strings.Join(routes, ", "))
}
