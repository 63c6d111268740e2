package plan

import "heddle.io/heddle/bpf"

// MaxTotal is the largest sum of weights of one service port: the kernel draws
// a number below it, which has 32 bits.
const MaxTotal = 1<<32 - 1

// share is one backend's part of a split.
type share struct {
	cluster uint64 // 0: missing, its part is refused
	weight  uint32 // above 0
}

// alias builds the alias table of 1 to bpf.MaxColumns shares whose weights sum
// up to at most MaxTotal.
//
// This is Vose's method in integers. The weights are multiplied by the number
// of columns, so every column has room for exactly total: a share that is
// smaller than total fills the bottom of its own column, and a larger one the
// rest. What a share gets over all columns is exactly weight*columns out of
// total*columns; there is no rounding anywhere.
func alias(shares []share) bpf.SplitVal {
	n := len(shares)
	var total uint64
	for _, s := range shares {
		total += uint64(s.weight)
	}
	split := bpf.SplitVal{Columns: uint32(n), Total: uint32(total)}

	var left [bpf.MaxColumns]uint64 // of every share, not yet given a place
	var stacks [2][bpf.MaxColumns]int
	small, large := stacks[0][:0], stacks[1][:0]
	for i, s := range shares {
		split.Column[i].Cluster = s.cluster
		left[i] = uint64(s.weight) * uint64(n)
		if left[i] < total {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 {
		// The columns that are left have exactly room for what is left, so a
		// share below total always has one above it.
		s, l := pop(&small), pop(&large)
		split.Column[s].Cut = uint32(left[s])
		split.Column[s].Alias = uint32(l)
		left[l] -= total - left[s]
		if left[l] < total {
			small = append(small, l)
		} else {
			large = append(large, l)
		}
	}
	for _, l := range large {
		split.Column[l].Cut = uint32(total)
		split.Column[l].Alias = uint32(l)
	}
	return split
}

func pop(stack *[]int) int {
	last := len(*stack) - 1
	v := (*stack)[last]
	*stack = (*stack)[:last]
	return v
}
