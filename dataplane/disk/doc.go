// Package disk keeps small files that must survive a crash: what was written
// is either there completely or not at all, and it is readable by its owner
// alone. The agent's cache of the control plane's resources and its list of
// pods are such files.
package disk
