package xds

// Type URLs of Heddle's resources, in the order in which a node subscribes.
const (
	NodeType     = "type.googleapis.com/heddle.v1.Node"
	ClusterType  = "type.googleapis.com/heddle.v1.Cluster"
	ServiceType  = "type.googleapis.com/heddle.v1.Service"
	WorkloadType = "type.googleapis.com/heddle.v1.Workload"
)

// Types lists every type a node subscribes to. Clusters come before the
// Services that name them, as in ADS ordering of the Envoy types, and Workloads
// last: a pod that enters the mesh is captured once its node knows of it, and
// Services that are not known by then are not translated.
var Types = []string{NodeType, ClusterType, ServiceType, WorkloadType}
