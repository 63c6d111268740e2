// Package procs finds the processes of pods on this node, by the names of their
// cgroups: those that a runtime makes for kubelet, with either cgroup driver,
// in cgroup2 and in the hierarchies before it. It needs the node's process ids
// (hostPID) and talks to no runtime.
package procs
