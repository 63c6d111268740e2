// Package kube reaches a Kubernetes cluster as its user does: with the
// kubeconfig and the rights of whoever calls. It reads objects of the API
// server page by page, bounded, and joins a program in a pod as a connection,
// over pods/exec.
//
// Nothing here writes to a cluster.
package kube
