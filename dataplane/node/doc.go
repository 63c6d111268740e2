// Package node is the agent: it wires the feed, the pods, the plan and the
// kernel together and keeps them agreed. New and Run are the only places that
// know all of dataplane.
package node
