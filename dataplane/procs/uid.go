package procs

import (
	"regexp"
	"slices"
	"strings"
)

// inPod is a component of a cgroup's path that is a pod's: kubelet's own names
// (pod<uid>) or those it gives to systemd (kubepods-burstable-pod<uid>.slice,
// with '_' in place of '-'). Static pods have a hash in place of a UUID.
var inPod = regexp.MustCompile(`^(?:kubepods(?:-besteffort|-burstable)?-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$`)

// UID returns the uid of the pod that a process belongs to, by the contents of
// its /proc/PID/cgroup; "" when it is in none. All hierarchies count, and the
// innermost pod: a node may itself run in one.
func UID(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 {
			continue
		}
		for _, component := range slices.Backward(strings.Split(fields[2], "/")) {
			if m := inPod.FindStringSubmatch(component); m != nil {
				return strings.ReplaceAll(m[1], "_", "-")
			}
		}
	}
	return ""
}
