package main

import "runtime/debug"

// release is what the Go toolchain recorded in the binary: the version, or the
// commit it was built from.
func release() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
