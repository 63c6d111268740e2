// Package serve sends translated resources to nodes as delta xDS (ADS).
//
// The protocol is go-control-plane's; what is here is the cache behind it. A
// resource is encoded once, however many nodes get it. Each node gets those of
// its audiences, a change wakes only the nodes that it concerns, and a node that
// comes back gets only what differs from what it has, also from a controller that
// has just started: versions are hashes of the contents.
package serve
