// Package hold keeps the packets of a pod back until the agent has decided
// about it: a pair of drop filters at the host side of its interface. The CNI
// plugin puts them there when the agent is down and pods are to start all the
// same; the agent lifts them once the pod is programmed, or is known to be
// outside the mesh.
//
// The filters are told by their name, handle and priority. Each runs a program of
// two instructions, because kernels without the simpler classifiers are common.
// Nothing is pinned: the filters end with the interface.
package hold
