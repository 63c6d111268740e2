// Package sandbox plays a two-node cluster on one Linux machine: it is how
// people try Heddle in ten seconds, and how the end-to-end tests run without
// Kubernetes.
//
//	          node1 (10.250.0.1)                  node2 (10.250.0.2)
//	netns     heddle-node1        fabric0 ──────── heddle-node2       fabric0
//	          heddled agent          │             heddled agent         │
//	          pod1 ── pod2 ── …      │             pod1 ── …             │
//	            │ veth, routed /32 and /128          │
//	netns     heddle-pod-shop_web: eth0 10.244.1.2   heddle-pod-shop_db: eth0 10.244.2.2
//
// Each node is a network namespace and a cgroup with an agent of its own; each
// Pod of the YAML is a network namespace, an interface, a cgroup and the real
// processes that its containers name by command. The package is kubelet, CNI
// and the API server's defaulting in small: it allocates addresses, starts and
// probes processes, and writes the completed objects into the directory that
// heddle-controller reads. There is no kube-proxy and no DNS: what reaches a
// service address does so by Heddle.
//
// Everything it makes carries its name (namespaces, cgroups, pins, directory),
// so that several sandboxes can be up at once, and Down finds all of it again,
// also after a crash half-way.
package sandbox
