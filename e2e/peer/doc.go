// Package peer is the traffic of the scenarios: servers that say who they are,
// and clients that count what happened to every connection. The scenarios' test
// binary runs it as a process of a pod, so that the sockets are those of an
// application: made in the pod's network namespace and cgroup, by system calls
// that know nothing of the mesh.
package peer
