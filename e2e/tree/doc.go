// Package tree holds the rules about the code itself, as tests: who may import
// whom, how large a file may grow, which names and calls are not used, and that
// the lists in the documentation are those of the code. It needs neither root
// nor a cluster, and runs with every `go test ./...`.
//
// The rules read the code (go list, go/parser) and never keep a copy of it. A
// rule that fails says what to do instead.
package tree
