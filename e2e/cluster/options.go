package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// What a node sees at /sys/fs/cgroup.
const (
	// CgroupV2 is cgroup2 alone, as a host of today has it, each pod in a cgroup
	// namespace of its own. Limits of CPU and memory are not enforced, and the
	// kubelet cannot be started again by itself.
	CgroupV2 = "v2"
	// CgroupHybrid is the hierarchies of v1 and cgroup2 at unified.
	CgroupHybrid = "hybrid"
)

// Modes of kube-proxy.
const (
	ProxyNFTables = "nftables"
	ProxyIPTables = "iptables"
	ProxyNone     = "none" // no kube-proxy, so no ClusterIP leads anywhere
)

// Processes that can be stopped and started: those of the control plane by
// Cluster, those of a node by Node.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"

	Containerd = "containerd"
	Kubelet    = "kubelet"
	KubeProxy  = "kube-proxy"
)

// Options say what cluster is wanted. The zero value, with Bin, is two nodes
// as most clusters of today have them.
type Options struct {
	Bin       string // directory that Build returned
	Name      string // of cgroups on the machine; the default has the pid in it
	Nodes     int    // default 2; less than none for a control plane alone
	Cgroup    string // default CgroupV2
	Proxy     string // default ProxyNFTables
	DualStack bool   // IPv6 beside IPv4

	// UserNamespaces has nodes run what BuildContainerd built in place of Debian's
	// containerd and runc, which are too old for pods with hostUsers: false.
	UserNamespaces bool

	// Dir is an empty directory, or none yet, for everything the cluster writes;
	// its logs stay there when the cluster goes down. Not below /etc, /opt, /run,
	// /var/lib and /var/log, where nodes have their own files, and not on an
	// overlay. By default it is a temporary directory that goes, logs and all.
	Dir string
	Log io.Writer // progress; default none

	// Further flags.
	EtcdArgs, APIServerArgs, ControllerManagerArgs, KubeletArgs []string
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// complete fills in the defaults and refuses what cannot be.
func (o *Options) complete() error {
	if o.Name == "" {
		o.Name = fmt.Sprintf("heddle-e2e-%d", os.Getpid())
	}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	o.Nodes = max(o.Nodes, 0)
	if o.Cgroup == "" {
		o.Cgroup = CgroupV2
	}
	if o.Proxy == "" {
		o.Proxy = ProxyNFTables
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	switch {
	case !namePattern.MatchString(o.Name):
		return fmt.Errorf("%q is no name for a cluster: use up to 40 of a-z, 0-9 and -", o.Name)
	case o.Nodes > 99:
		return fmt.Errorf("%d nodes are too many for one machine: use up to 99, and Kwok for more", o.Nodes)
	case o.Cgroup != CgroupV2 && o.Cgroup != CgroupHybrid:
		return fmt.Errorf("cgroup mode %q: use %s or %s", o.Cgroup, CgroupV2, CgroupHybrid)
	case o.Proxy != ProxyNFTables && o.Proxy != ProxyIPTables && o.Proxy != ProxyNone:
		return fmt.Errorf("kube-proxy mode %q: use %s, %s or %s", o.Proxy, ProxyNFTables, ProxyIPTables, ProxyNone)
	case os.Geteuid() != 0:
		return errors.New("a cluster needs root: it makes namespaces and cgroups")
	}
	return o.checkPrograms()
}

func (o *Options) checkPrograms() (err error) {
	if o.Bin, err = filepath.Abs(o.Bin); err != nil {
		return err
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kubelet", "runtime", "images/pause.tar", "images/peer.tar"} {
		if !exists(filepath.Join(o.Bin, name)) {
			return fmt.Errorf("%s has no %s: give the directory that cluster.Build returns", o.Bin, name)
		}
	}
	if hidden(o.Bin) {
		return fmt.Errorf("%s would be hidden inside a node, which has a /run and a /var/log of its own", o.Bin)
	}
	for _, name := range runtimePrograms {
		if o.UserNamespaces {
			if !exists(filepath.Join(o.Bin, runtimeDir, name)) {
				return fmt.Errorf("%s has no %s/%s: call cluster.BuildContainerd", o.Bin, runtimeDir, name)
			}
		} else if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w: install Debian's containerd and runc (.ci/setup cluster)", err)
		}
	}
	for _, name := range plugins {
		if !exists(filepath.Join(cniDir, name)) {
			return fmt.Errorf("no CNI plugin %s in %s: install Debian's containernetworking-plugins (.ci/setup cluster)", name, cniDir)
		}
	}
	return nil
}

// cniDir is where Debian has the CNI plugins.
const cniDir = "/usr/lib/cni"

// hidden says whether a node has something of its own in place of a directory.
func hidden(dir string) bool {
	for _, own := range []string{"/run/", "/var/run/", "/var/log/", "/proc/", "/sys/"} {
		if strings.HasPrefix(dir+"/", own) {
			return true
		}
	}
	return false
}

// makeDir makes the cluster's directory. It reports whether it is a temporary
// one, to be removed as a whole.
func (o *Options) makeDir() (temporary bool, err error) {
	if o.Dir == "" {
		o.Dir, err = os.MkdirTemp("", o.Name+"-")
		temporary = true
	} else if o.Dir, err = filepath.Abs(o.Dir); err == nil {
		err = os.MkdirAll(o.Dir, 0o755)
	}
	if err == nil {
		// Nodes see it under the same name, so no links.
		o.Dir, err = filepath.EvalSymlinks(o.Dir)
	}
	if err == nil {
		err = checkDir(o.Dir)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(o.Dir, "log"), 0o755)
	}
	if err != nil && temporary && o.Dir != "" {
		os.RemoveAll(o.Dir)
	}
	return temporary, err
}

func checkDir(dir string) error {
	for _, own := range []string{"/etc/", "/opt/", "/var/lib/"} {
		if hidden(dir) || strings.HasPrefix(dir+"/", own) {
			return fmt.Errorf("the directory of a cluster cannot be %s: nodes have their own files there", dir)
		}
	}
	if strings.ContainsAny(dir, ",:\\") {
		return fmt.Errorf("the directory of a cluster cannot be %s: the options of a mount take no comma, colon or backslash in it", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: a cluster needs a directory of its own", dir)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return err
	}
	if stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%s is on an overlay, where containerd cannot keep images: give a directory on a disk or a tmpfs", dir)
	}
	return nil
}
