package main

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestTuneCollector(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	for _, test := range []struct {
		name    string
		env     map[string]string
		percent int
		limit   int64
	}{
		{"as the manifest says", map[string]string{"MEMORY_LIMIT": "1073741824"}, 150, 966367638},
		{"no container", nil, 150, math.MaxInt64},
		{"not a number", map[string]string{"MEMORY_LIMIT": "1Gi"}, 150, math.MaxInt64},
		{"the user's", map[string]string{"MEMORY_LIMIT": "1000", "GOMEMLIMIT": "9", "GOGC": "7"}, 100, math.MaxInt64},
	} {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
		tuneCollector(func(name string) string { return test.env[name] })
		gotLimit, gotPercent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
		if gotLimit != test.limit || gotPercent != test.percent {
			t.Errorf("%s: limit %d, percent %d", test.name, gotLimit, gotPercent)
		}
	}
}
