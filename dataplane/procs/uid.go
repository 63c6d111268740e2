package procs

import (
	"iter"
	"maps"
	"regexp"
	"strings"
)

// inPod is a component of a cgroup's path that is a pod's: kubelet's own names
// (pod<uid>) or those it gives to systemd (kubepods-burstable-pod<uid>.slice,
// with '_' in place of '-'). Static pods have a hash in place of a UUID.
var inPod = regexp.MustCompile(`^(?:kubepods(?:-besteffort|-burstable)?-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$`)

// UID returns the uid of the pod that a process belongs to, by the contents of
// its /proc/PID/cgroup; "" when it is in none. All hierarchies count.
//
// Cgroups that a pod may make are below its own, and can have any name. So it is
// the first pod of a path that counts: after what the path has in common with
// own, the reader's own cgroups, because a node may itself run in a pod.
func UID(cgroups, own string) string {
	readers := paths(own)
	for hierarchy, path := range eachPath(cgroups) {
		for _, component := range after(path, readers[hierarchy]) {
			if m := inPod.FindStringSubmatch(component); m != nil {
				return strings.ReplaceAll(m[1], "_", "-")
			}
		}
	}
	return ""
}

// eachPath yields the lines of a /proc/PID/cgroup: the controllers of a hierarchy
// and the components of the path in it.
func eachPath(cgroups string) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for line := range strings.Lines(cgroups) {
			fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(fields) == 3 && !yield(fields[1], strings.Split(fields[2], "/")) {
				return
			}
		}
	}
}

func paths(cgroups string) map[string][]string { return maps.Collect(eachPath(cgroups)) }

// after is what of a path is not common with another.
func after(path, other []string) []string {
	n := 0
	for n < min(len(path), len(other)) && path[n] == other[n] {
		n++
	}
	return path[n:]
}
