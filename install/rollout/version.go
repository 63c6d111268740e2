package rollout

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
)

// older reports whether a is an earlier release than b. What is no version is
// not older.
func older(a, b string) bool {
	va, errA := version.ParseSemantic(a)
	vb, errB := version.ParseSemantic(b)
	return errA == nil && errB == nil && va.LessThan(vb)
}

// Neighbours refuses a step between versions that are not made to work
// together: controllers and agents do that with those one minor version away.
// known is false when one of the two says nothing about that, as builds from a
// working tree do.
func Neighbours(from, to string) (known bool, err error) {
	a, errA := version.ParseSemantic(from)
	b, errB := version.ParseSemantic(to)
	if errA != nil || errB != nil {
		return false, nil
	}
	step := int(b.Minor()) - int(a.Minor())
	if a.Major() != b.Major() || step > 1 || step < -1 {
		next := fmt.Sprintf("v%d.%d", a.Major(), int(a.Minor())+1)
		if b.LessThan(a) {
			next = fmt.Sprintf("v%d.%d", a.Major(), max(int(a.Minor())-1, 0))
		}
		return true, fmt.Errorf("from %s to %s is more than one minor version: agents and controllers of the two would not work together; go to %s first", from, to, next)
	}
	return true, nil
}
