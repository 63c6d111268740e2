package xds

// Type URLs of Heddle's resources, in the order in which a node subscribes.
const (
	NodeType     = "type.googleapis.com/heddle.v1.Node"
	WorkloadType = "type.googleapis.com/heddle.v1.Workload"
	ClusterType  = "type.googleapis.com/heddle.v1.Cluster"
	ServiceType  = "type.googleapis.com/heddle.v1.Service"
)

// Types lists every type a node subscribes to. Clusters come before the
// Services that name them, as in ADS ordering of the Envoy types.
var Types = []string{NodeType, WorkloadType, ClusterType, ServiceType}
