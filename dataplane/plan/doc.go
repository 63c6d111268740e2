// Package plan turns what the control plane said (dataplane/state) and the
// pods of this node into the exact contents of the kernel's maps, and the
// difference between two contents into an ordered list of map operations.
//
// It is pure: same input, same output; no kernel, no sockets, no clock. Build
// decides what the tables shall hold, Diff how to get there while connections
// are being made, dataplane/tables carries it out.
package plan
