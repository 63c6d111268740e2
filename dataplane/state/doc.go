// Package state holds what the control plane told this node: workloads,
// services and clusters, as immutable snapshots.
//
// It is pure: no kernel, no sockets, no clock. dataplane/feed decodes xDS
// resources into these types, dataplane/plan turns a snapshot into the exact
// contents of the kernel's maps.
package state
