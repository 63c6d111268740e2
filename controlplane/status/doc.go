// Package status tells users in their own objects what became of them: it writes
// the conditions that controlplane/condition finds.
//
// Every controller serves nodes, and one writes: the holder of a Lease. What the
// nodes of the others have acknowledged it reads in ConfigMaps that they keep.
// Nothing is written when nothing changed, entries of others stay as they are, and
// a condition goes back from true only when that lasts: an endpoint that changes
// is no news.
package status
