// Package cluster brings up a real Kubernetes cluster on one Linux machine.
package cluster
