// Package plane is the control plane as one thing: it reads the objects, keeps
// them translated, serves them to the nodes, and tells operators how that goes.
// It wires source, translate and serve together, and has the admin API.
package plane
