package plan

import "fmt"

// Problem is something that the plan could not do as it was told, with what
// the operator can do about it.
type Problem struct {
	Object string // "Service shop/cart", "Pod shop/cart-0"
	Reason string // one of the Reason constants
	Detail string
}

// Reasons of problems. They are stable: people alert on them.
const (
	ReasonMapFull          = "MapFull"
	ReasonDuplicateAddress = "DuplicateAddress"
	ReasonDuplicatePort    = "DuplicatePort"
	ReasonClusterUnknown   = "ClusterUnknown"
	ReasonTooManyBackends  = "TooManyBackends"
	ReasonWeightsTooLarge  = "WeightsTooLarge"
	ReasonIDCollision      = "IDCollision"
	ReasonTooManyAddresses = "TooManyAddresses"
	ReasonDuplicatePod     = "DuplicatePod"
)

// String is the form of golden tests and logs.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s: %s", p.Object, p.Reason, p.Detail)
}

func (b *builder) problem(object, reason, format string, args ...any) {
	b.problems = append(b.problems, Problem{object, reason, fmt.Sprintf(format, args...)})
}
