package main

import (
	"slices"
	"testing"
)

func TestRangeOf(t *testing.T) {
	for _, x := range []struct {
		values []float64
		want   Range
	}{
		{[]float64{7}, Range{7, 7, 7}},
		{[]float64{9, 1, 5}, Range{5, 1, 9}},
		{[]float64{4, 1, 3, 2}, Range{2.5, 1, 4}},
	} {
		before := slices.Clone(x.values)
		if got := rangeOf(x.values); got != x.want {
			t.Errorf("rangeOf(%v) = %v, want %v", x.values, got, x.want)
		}
		if !slices.Equal(before, x.values) {
			t.Errorf("rangeOf changed the order of the rounds: %v", x.values)
		}
	}
}

// TestPaired: a round in which everything is twice as slow does not change a
// ratio, and the median of ratios is not the ratio of medians.
func TestPaired(t *testing.T) {
	base, values := []float64{10, 20, 10, 0}, []float64{8, 16, 9, 5}
	if got := paired(values, base); !slices.Equal(got, []float64{0.8, 0.8, 0.9}) {
		t.Errorf("ratios are %v", got)
	}
	if got := paired([]float64{1, 2}, []float64{2}); !slices.Equal(got, []float64{0.5}) {
		t.Errorf("ratios of a run that was cut short: %v", got)
	}
}

// TestHolds: the range is the one that was printed, so a difference that
// rounding hides is none.
func TestHolds(t *testing.T) {
	r := Range{5, 4.96, 5.04}
	for value, want := range map[float64]bool{5: true, 4.96: true, 5.04: true, 4.951: true, 4.94: false, 5.06: false} {
		if got := r.holds(value, 1); got != want {
			t.Errorf("%v in %s: %v", value, r.text(1), got)
		}
	}
	if r.holds(4.951, 2) {
		t.Error("4.95 is in 4.96–5.04")
	}
}

func TestRotate(t *testing.T) {
	all := []string{"a", "b", "c"}
	first, follows := map[string]int{}, map[string]int{}
	for n := range 6 {
		got := rotate(all, n)
		if sorted := slices.Sorted(slices.Values(got)); !slices.Equal(sorted, all) {
			t.Fatalf("turn %d has %v", n, got)
		}
		first[got[0]]++
		for i := range got[1:] {
			follows[got[i]+got[i+1]]++
		}
	}
	for _, name := range all {
		if first[name] != 2 {
			t.Errorf("%s comes first %d times of 6", name, first[name])
		}
	}
	if len(follows) != 6 {
		t.Errorf("some never follow some others: %v", follows)
	}
	if rotate[int](nil, 3) != nil {
		t.Error("turns of nothing")
	}
}
