package admin

import "time"

// ControllerStatus is what `heddlectl status` shows of the controller.
type ControllerStatus struct {
	Version  string          `json:"version"`
	Started  time.Time       `json:"started"`
	Source   Source          `json:"source"`
	Objects  []Count         `json:"objects"` // by kind
	Problems []Problem       `json:"problems,omitempty"`
	Nodes    []ConnectedNode `json:"nodes"`
	Batches  uint64          `json:"batches"` // translations since start
	Encoded  uint64          `json:"encoded"` // resources encoded since start; each once, however many nodes get it
	Sent     uint64          `json:"sent"`    // resources sent since start
}

// Source is where the objects come from.
type Source struct {
	Kind  string `json:"kind"`            // dir, or kubernetes
	Path  string `json:"path,omitempty"`  // or the address of the API server
	Error string `json:"error,omitempty"` // why it cannot be read now; the last good objects are in force
}

// ConnectedNode is a node with a stream to this controller.
type ConnectedNode struct {
	Node      string    `json:"node"`
	Connected time.Time `json:"connected"`
	Resources int       `json:"resources"`
	Acks      uint64    `json:"acks"`
	Nacks     uint64    `json:"nacks"`
	Bytes     uint64    `json:"bytes"` // sent on its stream
	LastNack  *Nack     `json:"lastNack,omitempty"`
}
