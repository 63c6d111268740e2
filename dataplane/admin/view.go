package admin

import (
	"context"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/plan"
	"heddle.io/heddle/dataplane/state"
)

// Node is the agent as this package sees it. Its methods are safe for
// concurrent use.
type Node interface {
	// View returns what is in force. It is never changed; nil before the
	// first state was put in force.
	View() *View
	// Status returns everything but the counters, which come from the tables.
	Status() api.AgentStatus
	// Pods lists the announced pods without their counters.
	Pods() []api.Pod
	// Announce enrols a pod and waits until its traffic is captured.
	Announce(context.Context, api.PodRequest) (api.Pod, error)
	// Forget removes the pod of that name; false when it was not announced, or
	// when the uid or the netns of the request are another pod's.
	Forget(context.Context, api.PodRequest) (bool, error)
	// Decide asks the kernel what it would do with a connection.
	Decide(bpf.ConnectIn) (bpf.ConnectOut, error)
}

// Tables are the kernel's maps.
type Tables interface {
	Stats() (map[bpf.StatKey]bpf.StatVal, error)
	Refusals() (map[bpf.RefusalKey]uint64, error)
	Ejected() (map[bpf.OutlierKey]time.Duration, error)
	Reasons() (map[bpf.Reason]uint64, error)
	IfaceStats() (map[uint32]bpf.IfaceStat, error)
	Usage() ([]api.Map, error)
	Dump(name string, limit int, names plan.Names) (api.MapDump, error)
}

// View is one state of the node: what the control plane said, what the kernel
// got of it, and since when.
type View struct {
	Snapshot *state.Snapshot
	Contents *plan.Contents
	Index    *plan.Index
	Records  map[PortKey]Record
}

// PortKey names a service port: one line of `heddlectl status`.
type PortKey struct {
	Resource string
	Port     uint16
	Protocol state.Protocol
}

// Record is when a service port's shares came into force, and what its
// counters were then.
type Record struct {
	Programmed time.Time
	Opened     map[Choice]uint64
}

// Choice is a cluster of a service port, in kernel ids. Cluster 0 stands for
// the backends that do not exist, whose share is refused.
type Choice struct {
	Service, Cluster uint64
}
