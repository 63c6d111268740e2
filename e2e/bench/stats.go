package main

import (
	"fmt"
	"slices"
	"strconv"
)

// A Range is a median and how far the rounds were apart.
type Range struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// rangeOf is the range of values, of which there is at least one.
func rangeOf(values []float64) Range {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Range{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

// holds reports whether a value lies inside the range, as it was printed.
func (r Range) holds(value float64, digits int) bool {
	return round(value, digits) >= round(r.Min, digits) && round(value, digits) <= round(r.Max, digits)
}

// text is the range with so many digits after the point.
func (r Range) text(digits int) string {
	return fmt.Sprintf("%.*f [%.*f–%.*f]", digits, r.Median, digits, r.Min, digits, r.Max)
}

// round is the value of a printed number.
func round(v float64, digits int) float64 {
	out, err := strconv.ParseFloat(strconv.FormatFloat(v, 'f', digits, 64), 64)
	if err != nil {
		return v
	}
	return out
}

// paired are the ratios of two variants within each round: what disturbed the
// round disturbed both.
func paired(values, base []float64) []float64 {
	var out []float64
	for i := range min(len(values), len(base)) {
		if base[i] > 0 {
			out = append(out, values[i]/base[i])
		}
	}
	return out
}

// rotate returns the order of a round: each variant comes first equally often,
// and every second turn goes the other way round, so that nobody always follows
// the same one.
func rotate[T any](all []T, number int) []T {
	if len(all) == 0 {
		return nil
	}
	n := number % len(all)
	out := slices.Concat(all[n:], all[:n])
	if number/len(all)%2 == 1 {
		slices.Reverse(out)
	}
	return out
}
