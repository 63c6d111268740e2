// Package statetest makes snapshots for tests: from the text that
// state.Snapshot.String writes, and at random.
package statetest
