// Package condition says what the status of the user's objects is: a snapshot,
// what is wrong with it and how far its resources have come go in, conditions come
// out. It is pure; controlplane/status writes them down.
//
// A node counts for Programmed when it acknowledged the Service's resource and did
// not say since that it does not fit: on a node whose tables are full, the Services
// that it names are not programmed, and the others are.
package condition
