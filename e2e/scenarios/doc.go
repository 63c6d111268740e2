// Package scenarios drives the built binaries as a user does: YAML files in,
// real sockets out, on the two-node sandbox. Each scenario is a test and a YAML
// file of the same name. It needs root.
//
//	go test ./e2e/scenarios -args -soak=60s
package scenarios
