// Package nettest is a node in a test: network namespaces, cgroups and bpffs
// mounts that belong to one test and are gone when it ends, also when it
// fails. Only tests import it.
package nettest
