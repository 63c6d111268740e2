// Package kube holds the scenarios on real Kubernetes: a cluster of two nodes with
// API server, kubelets, containerd and a network plugin (e2e/cluster), Heddle
// installed as its users install it, and unmodified pods.
//
// There is nothing here but tests:
//
//	canary_test.go     shares of a TCPRoute in each kind of cluster
//	enrol_test.go      into the mesh and out of it while connections are made
//	change_test.go     rollouts, crashes and restarts of everything, under traffic
//	boot_test.go       what pods send and take while their node comes up
//	pods_test.go       probes, ports and kinds of pods
//	balancer_test.go   addresses of load balancers, from outside and from pods
//	userns_test.go     pods with users of their own
//	rights_test.go     what the agent's token and strangers may do
//	input_test.go      what kubectl apply says of bad objects
//	uninstall_test.go  nothing is left
//
// Each begins with the shop (shop_test.go): it asks for what it needs, and waits
// for it, so nothing depends on the scenarios before. Waits are for what has to
// come and end late (patience); nothing here measures time. What fails is told
// once more at the end of all output (tell_test.go).
//
// Traffic is that of e2e/peer: blocking system calls in a pod of its own, which
// count every connection and what the application saw when one failed.
package kube
