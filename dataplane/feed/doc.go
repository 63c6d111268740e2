// Package feed is the node's end of the stream from the control plane. It
// keeps a delta ADS stream open, decodes Heddle's resources into state
// snapshots, refuses what does not decode, and remembers the last good state
// on disk so that a node works on without a controller.
//
// Protocol and meaning are apart: stream.go and store.go move and keep
// resources without knowing them, decode_*.go check every field of one type.
package feed
