// Package source reads the objects of a cluster and keeps a model of them: here,
// from a directory of YAML and JSON files.
//
// Files are written by people and by programs, sometimes badly and sometimes
// halfway. So every object is checked on its own; one that cannot be used is
// reported, and its last good version stays in force, also when the controller
// starts again.
package source
