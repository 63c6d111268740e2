// Package attach owns Heddle's kernel objects: it creates them, adopts what an
// earlier agent left pinned, upgrades the programs in place and moves the
// contents of maps whose layout changed, field by field.
//
// What is pinned below Options.Pins is the state; the process holds nothing
// that a restart would lose:
//
//	maps/NAME            the map that programs and agent use
//	links/NAME           a cgroup hook, one per program
//	links/tc_in_IFINDEX  a tcx hook of an interface, and tc_out_IFINDEX
//	staged/NAME          a map of the next layout, being filled; no program
//	                     uses it, so an interrupted upgrade starts over
//	switch/NAME          the same map once programs may use it; an interrupted
//	                     upgrade is finished from here
//
// The rename of staged to switch is the point of no return of an upgrade.
package attach
