package load

import (
	"math/bits"
	"time"
)

// A Histogram counts durations in steps of about 3 %, from 1 ns to 2⁴⁰ ns. It
// takes no memory while it counts.
type Histogram struct {
	counts [36 * steps]uint32
	total  uint64
}

const (
	stepBits = 5
	steps    = 1 << stepBits
)

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[slot(d)]++
	h.total++
}

// Merge adds what another one counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// Total is how many durations were counted.
func (h *Histogram) Total() uint64 { return h.total }

// Quantile is the duration that a share q of all do not exceed, 0 of none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q * float64(h.total-1))
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); seen > rank {
			return middleOf(i)
		}
	}
	return middleOf(len(h.counts) - 1)
}

// slot keeps the leading one of a number and the bits after it: below steps each
// number has its own slot, above the slots double in width.
func slot(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < steps {
		return int(v)
	}
	shift := bits.Len64(v) - stepBits - 1
	return min(shift*steps+int(v>>shift), len(Histogram{}.counts)-1)
}

// middleOf is the middle of a slot.
func middleOf(i int) time.Duration {
	if i < 2*steps {
		return time.Duration(i)
	}
	shift := i/steps - 1
	low := uint64(i-shift*steps) << shift
	return time.Duration(low + 1<<shift/2)
}
