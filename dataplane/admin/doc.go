// Package admin answers on the agent's admin socket: what the node knows, what
// its kernel holds, why a connection goes where it goes, and metrics. The JSON
// and the paths are those of heddle.io/heddle/api/admin; metrics.md lists the
// metrics.
//
// The socket belongs to root alone. All the same every request is bounded: its
// body, its time, and how many run at once.
package admin
