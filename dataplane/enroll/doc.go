// Package enroll knows the pods of this node: those that were announced to the
// agent, with their network namespace and interface, and which of them are in
// the mesh according to the control plane.
//
// The list survives restarts of the agent. Membership does not belong to it:
// it is joined with every new state, so a namespace that gains or loses its
// label takes its running pods along.
package enroll
