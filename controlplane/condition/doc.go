// Package condition says what the status of the user's objects is: a snapshot,
// what is wrong with it and how far its resources have come go in, conditions come
// out. It is pure; controlplane/status writes them down.
package condition
