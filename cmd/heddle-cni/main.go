// Command heddle-cni is Heddle's CNI plugin, the last of the chain: a pod is
// enrolled before its first process runs. A container runtime calls it as the
// CNI specification says; see dataplane/cni/plugin.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"heddle.io/heddle/dataplane/cni/plugin"
)

func main() {
	skel.PluginMainFuncs(plugin.Funcs(), version.All, "heddle-cni "+release()+" enrols pods in the mesh; a container runtime calls it")
}
