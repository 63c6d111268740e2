package node

import (
	"fmt"
	"testing"

	api "heddle.io/heddle/api/admin"
)

// However many services do not fit, what is said about them stays readable, and
// what is different is not lost among what is alike.
func TestProblemsAreBounded(t *testing.T) {
	var problems []api.Problem
	for i := range 1000 {
		problems = append(problems, api.Problem{Object: fmt.Sprintf("Service shop/s%d", i), Reason: "MapFull"})
	}
	problems = append(problems, api.Problem{Object: "kernel tables", Reason: "PlanNotApplied"})
	count := make(map[string]int)
	for _, p := range bounded(problems) {
		count[p.Reason]++
	}
	if count["MapFull"] != maxAlike || count["PlanNotApplied"] != 1 || count["TooManyProblems"] != 1 {
		t.Errorf("problems by reason: %v", count)
	}
}
