// Package model is the control plane's own view of a cluster: what of its
// objects matters to a mesh, checked and in our own types.
//
// It is pure: no clock, no sockets, no Kubernetes. controlplane/source fills a
// Snapshot, controlplane/translate turns it into what nodes need to know.
package model
