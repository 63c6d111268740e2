package admin

import "time"

// Error is the body of every failed request.
type Error struct {
	Error string `json:"error"`
}

// AgentStatus is what `heddlectl status` shows of one node.
type AgentStatus struct {
	Node     string    `json:"node"`
	Zone     string    `json:"zone,omitempty"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Kernel   string    `json:"kernel"`
	Features []Feature `json:"features"`
	// Mechanisms are the ways of moving bytes other than the node's stack.
	Mechanisms []Mechanism `json:"mechanisms,omitempty"`
	Feed       Feed        `json:"feed"`
	Plan       Plan        `json:"plan"`
	Pods       int         `json:"pods"` // enrolled here
	Services   int         `json:"services"`
	Endpoints  int         `json:"endpoints"`
	Problems   []Problem   `json:"problems,omitempty"`
	Reasons    []Count     `json:"reasons,omitempty"` // reason code -> count, zero counts left out
}

// Feature is a kernel mechanism: used or not, and why not.
type Feature struct {
	Name   string `json:"name"`
	On     bool   `json:"on"`
	Reason string `json:"reason,omitempty"`
}

// Mechanism is a way of moving the bytes of connections, and how many use it.
type Mechanism struct {
	Name   string `json:"name"`
	On     bool   `json:"on"`               // new connections may use it
	Reason string `json:"reason,omitempty"` // why not
	// Now is how many connections it carries at this moment. One that the socket
	// bypass carries is not counted for the fast path as well, although its
	// handshake and its end take that.
	Now uint64 `json:"now"`
	// Total is how many it has taken over since the maps were created; those of
	// the fast path include what the bypass carried then.
	Total uint64 `json:"total"`
	// Left counts what it did not take over, or gave back, by reason code; zero
	// counts are left out. For the bypass late and slow are directions of a
	// connection, full and share are sockets.
	Left []Count `json:"left,omitempty"`
}

// Feed is the state of the stream to the control plane.
type Feed struct {
	Server    string    `json:"server"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`           // of the present connected/disconnected state
	Error     string    `json:"error,omitempty"` // of the last attempt
	Synced    bool      `json:"synced"`          // every type was received at least once (or came from the cache)
	FromCache bool      `json:"fromCache"`       // nothing received since start yet: the disk cache is in force
	Resources int       `json:"resources"`
	Acks      uint64    `json:"acks"`
	Nacks     uint64    `json:"nacks"`
	LastNack  *Nack     `json:"lastNack,omitempty"`
}

// Nack is a refused resource.
type Nack struct {
	Time     time.Time `json:"time"`
	Type     string    `json:"type"`
	Resource string    `json:"resource"`
	Error    string    `json:"error"`
}

// Plan is the state of the kernel's tables.
type Plan struct {
	Applied  time.Time `json:"applied"`         // last time that the tables were changed
	Batches  uint64    `json:"batches"`         // plans applied since start
	Ops      uint64    `json:"ops"`             // map operations since start
	LastOps  int       `json:"lastOps"`         // map operations of the last batch
	LastTook float64   `json:"lastTookSeconds"` // from the resources' arrival to the last map operation
	Error    string    `json:"error,omitempty"` // why the last plan could not be applied; the one before is in force
}

// Problem is something the operator should know, with what to do about it.
type Problem struct {
	Object string    `json:"object"` // "TCPRoute shop/canary", "file routes.yaml", "map hd_services"
	Reason string    `json:"reason"` // stable code, CamelCase
	Detail string    `json:"detail"`
	Since  time.Time `json:"since"`
}

// Count is a counter with a stable name.
type Count struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
	// Meaning is one sentence about a reason code, where it is worth the room.
	Meaning string `json:"meaning,omitempty"`
}

// Service is one service port as the node's kernel has it.
type Service struct {
	Namespace  string    `json:"namespace"`
	Name       string    `json:"name"`
	Scope      string    `json:"scope,omitempty"`
	Port       uint16    `json:"port"`
	PortName   string    `json:"portName,omitempty"`
	Protocol   string    `json:"protocol"`
	Addresses  []string  `json:"addresses"`
	Route      string    `json:"route,omitempty"`
	Affinity   uint32    `json:"affinitySeconds,omitempty"`
	Backends   []Backend `json:"backends"`
	Refused    []Count   `json:"refused,omitempty"`
	Programmed time.Time `json:"programmed"` // when the kernel last got a change of this port's shares
	ID         string    `json:"id"`         // hexadecimal, as in the maps
}

// Backend is one cluster of a service port and its share.
type Backend struct {
	Backend     string     `json:"backend"` // "namespace/name:port"
	Cluster     string     `json:"cluster,omitempty"`
	Weight      uint32     `json:"weight"`
	Share       float64    `json:"share"`             // expected, 0..1
	Observed    float64    `json:"observed"`          // of the connections opened since the last change of shares, 0..1
	Opened      uint64     `json:"opened"`            // connections since the agent first knew the service
	Established uint64     `json:"established"`       // TCP
	Open        uint64     `json:"open"`              // now
	Problem     string     `json:"problem,omitempty"` // reason code when its share is refused
	Endpoints   []Endpoint `json:"endpoints"`
}

// Cluster is a set of endpoints, with those this node uses.
type Cluster struct {
	Name      string     `json:"name"`
	Locality  string     `json:"locality"`
	ID        string     `json:"id"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is one address of a cluster.
type Endpoint struct {
	Address  string `json:"address"` // ip:port
	Node     string `json:"node,omitempty"`
	Zone     string `json:"zone,omitempty"`
	Workload string `json:"workload,omitempty"`
	Draining bool   `json:"draining,omitempty"`
	Used     bool   `json:"used"` // this node sends connections there
	// How long it still gets none, because connections to it failed; 0: it gets its share.
	EjectedSeconds float64 `json:"ejectedSeconds,omitempty"`

	Opened uint64 `json:"opened"`
	Open   uint64 `json:"open"`
}

// Pod is a pod of this node that was announced to the agent.
type Pod struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Addresses []string `json:"addresses,omitempty"`
	Enrolled  bool     `json:"enrolled"`
	Reason    string   `json:"reason,omitempty"` // why it is not enrolled
	Netns     uint64   `json:"netnsCookie"`
	Interface string   `json:"interface"`
	Ifindex   uint32   `json:"ifindex"`
	Mode      string   `json:"mode,omitempty"` // tcx or clsact
	// Why its packets never take the fast path; empty: they may.
	FastPathOff string `json:"fastPathOff,omitempty"`
	Bypass      string `json:"bypass,omitempty"` // the socket bypass: "on…", or "off: " and why
	RxPackets   uint64 `json:"rxPackets"`        // from the pod
	RxBytes     uint64 `json:"rxBytes"`
	TxPackets   uint64 `json:"txPackets"` // to the pod
	TxBytes     uint64 `json:"txBytes"`
	Dropped     uint64 `json:"dropped"`
}

// PodRequest announces a pod to the agent, before its first process starts.
// The agent answers when it knows from the control plane whether the pod is in
// the mesh and, if so, when its traffic is captured.
type PodRequest struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Path of the network namespace, as the agent sees it (/run/netns/x).
	Netns string `json:"netns"`
	// Host side of the pod's interface, in the agent's network namespace. Empty:
	// it has none that the agent could guard. Such a pod can be outside the mesh
	// only, and the agent refuses it otherwise.
	Interface string `json:"interface"`
	// The Pod object's metadata.uid; empty when the runtime does not tell. A
	// recreated pod of the same name has another one.
	UID string `json:"uid,omitempty"`
	// The pod's addresses as its network plugin gave them. The control plane
	// hears of them only after the pod has started.
	Addresses []string `json:"addresses,omitempty"`
	// How long to wait for the control plane to know the pod; 0: 10 s.
	TimeoutSeconds float64 `json:"timeoutSeconds,omitempty"`
}

// Map is a kernel map and how full it is.
type Map struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Entries    int    `json:"entries"` // -1: cannot be counted (socket storage)
	MaxEntries uint32 `json:"maxEntries"`
	KeySize    uint32 `json:"keySize"`
	ValueSize  uint32 `json:"valueSize"`
	Bytes      uint64 `json:"bytes"` // memory charged by the kernel
	Pin        string `json:"pin"`
}

// MapDump is the contents of a map, field by field.
type MapDump struct {
	Name    string     `json:"name"`
	Entries []MapEntry `json:"entries"`
	More    bool       `json:"more,omitempty"` // cut at the limit of one answer
}

// MapEntry is one key and value as text.
type MapEntry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// WhyRequest asks what the kernel would do with a connection.
type WhyRequest struct {
	// "namespace/pod", or empty with Netns set.
	Source string `json:"source"`
	// IP address; the client resolves names.
	Address  string `json:"address"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"` // tcp or udp
}

// Why is the kernel's decision and what it read on the way.
type Why struct {
	Source      string    `json:"source"`
	Destination string    `json:"destination"`
	Verdict     string    `json:"verdict"` // pass, translate, refuse
	Reason      string    `json:"reason"`  // stable code
	Explanation string    `json:"explanation"`
	Service     string    `json:"service,omitempty"`
	Route       string    `json:"route,omitempty"`
	Endpoint    string    `json:"endpoint,omitempty"` // of this draw
	Backends    []Backend `json:"backends,omitempty"` // all of them, with shares
	Read        []Lookup  `json:"read"`               // in order
}

// Lookup is one map entry that the decision read.
type Lookup struct {
	Map   string `json:"map"`
	Key   string `json:"key"`
	Value string `json:"value"` // "(absent)" when there was none
}
