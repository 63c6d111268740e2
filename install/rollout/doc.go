// Package rollout brings objects into a cluster, waits until they work, and
// takes them out again: server-side apply under one name of its own, in order,
// so that doing it twice changes nothing.
package rollout
