package plan

import (
	"math/rand/v2"
	"testing"

	"heddle.io/heddle/bpf"
)

// parts counts, over all columns and all draws below total, how often each
// share is taken. It adds up the cuts; it does not draw.
func parts(t *testing.T, s bpf.SplitVal) map[uint64]uint64 {
	t.Helper()
	got := map[uint64]uint64{}
	for i := range s.Columns {
		c := s.Column[i]
		if c.Cut > s.Total || c.Alias >= s.Columns {
			t.Fatalf("column %d: %+v with total %d", i, c, s.Total)
		}
		got[c.Cluster] += uint64(c.Cut)
		got[s.Column[c.Alias].Cluster] += uint64(s.Total - c.Cut)
	}
	return got
}

// Every share gets exactly weight*columns of the total*columns possible draws.
func checkExact(t *testing.T, weights []uint32) {
	t.Helper()
	shares := make([]share, len(weights))
	for i, w := range weights {
		shares[i] = share{uint64(i + 1), w}
	}
	s := alias(shares)
	if int(s.Columns) != len(weights) {
		t.Fatalf("weights %v: %d columns", weights, s.Columns)
	}
	got := parts(t, s)
	for i, w := range weights {
		if want := uint64(w) * uint64(len(weights)); got[uint64(i+1)] != want {
			t.Errorf("weights %v: share %d has %d draws of %d, want %d", weights, i, got[uint64(i+1)],
				uint64(s.Total)*uint64(s.Columns), want)
		}
	}
}

func TestAliasExact(t *testing.T) {
	for _, weights := range [][]uint32{
		{1}, {1, 1}, {90, 10}, {1, 999}, {33, 33, 34}, {5, 5, 5, 5},
		{1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
		{1_000_000, 1}, {1, 1_000_000, 1},
		{1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000,
			1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000},
		{MaxTotal}, {MaxTotal - 1, 1}, {1 << 31, 1<<31 - 1},
	} {
		checkExact(t, weights)
	}
	r := rand.New(rand.NewPCG(7, 7))
	for range 20_000 {
		weights := make([]uint32, 1+r.IntN(bpf.MaxColumns))
		for i := range weights {
			weights[i] = 1 + r.Uint32N(1<<r.IntN(28))
		}
		checkExact(t, weights)
	}
}

func FuzzAliasExact(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 231, 3, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var weights []uint32
		var total uint64
		for len(data) >= 4 && len(weights) < bpf.MaxColumns {
			w := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
			if data = data[4:]; w > 0 && total+uint64(w) <= MaxTotal {
				weights, total = append(weights, w), total+uint64(w)
			}
		}
		if len(weights) > 0 {
			checkExact(t, weights)
		}
	})
}

// The same share twice in a split stays two columns that add up.
func TestAliasMissingTwice(t *testing.T) {
	got := parts(t, alias([]share{{0, 10}, {7, 70}, {0, 20}}))
	if got[0] != 90 || got[7] != 210 {
		t.Errorf("got %v", got)
	}
}
