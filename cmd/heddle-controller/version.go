package main

import "runtime/debug"

// version is what the Go toolchain recorded in the binary: the release, or the
// commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
