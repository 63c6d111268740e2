package bpf_test

import (
	"fmt"
	"maps"
	"testing"

	"heddle.io/heddle/bpf"
)

// TestShares draws every (column, number below total) pair of a split once, in
// the kernel: the shares are the weights' exact ratio, not an estimate of it.
func TestShares(t *testing.T) {
	why, tables := load(t, bpf.ProgWhy)
	client, vip := enrolledClient(t, tables)
	for _, weights := range [][]uint32{
		{90, 10}, {1, 999}, {33, 33, 34}, {1}, {0, 5}, {7, 0, 0, 3},
		{1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
		{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 97},
	} {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			split := alias(weights)
			put(t, tables[bpf.MapSplits], uint64(1), split)
			put(t, tables[bpf.MapServices], vip, bpf.ServiceVal{Service: 1, Split: 1})
			want := map[uint64]uint64{}
			for i, weight := range weights {
				cluster := uint64(i + 1)
				put(t, tables[bpf.MapClusters], cluster, bpf.ClusterVal{Count: 1})
				put(t, tables[bpf.MapEndpoints], bpf.EndpointKey{Cluster: cluster},
					bpf.EndpointVal{Addr: vip.Addr, Cluster: cluster})
				if weight > 0 {
					want[cluster] = uint64(weight) * uint64(split.Columns)
				}
			}

			got := map[uint64]uint64{}
			for rnd := range uint64(split.Columns) * uint64(split.Total) {
				client.Rnd = rnd
				out, err := bpf.Decide(why, client)
				if err != nil {
					t.Fatal(err)
				}
				if out.Reason != bpf.ReasonBalanced {
					t.Fatalf("rnd %d: %s", rnd, out.Reason)
				}
				got[out.Cluster]++
			}
			if !maps.Equal(got, want) {
				t.Errorf("of %d draws the clusters got %v, want %v", split.Columns*split.Total, got, want)
			}
		})
	}
}

// TestEndpointShares: within a cluster every endpoint gets its turn.
func TestEndpointShares(t *testing.T) {
	why, tables := load(t, bpf.ProgWhy)
	client, vip := enrolledClient(t, tables)
	const endpoints, rounds = 7, 10
	put(t, tables[bpf.MapServices], vip, bpf.ServiceVal{Service: 1, Cluster: 1})
	put(t, tables[bpf.MapClusters], uint64(1), bpf.ClusterVal{Count: endpoints})
	for i := range uint32(endpoints) {
		put(t, tables[bpf.MapEndpoints], bpf.EndpointKey{Cluster: 1, Index: i},
			bpf.EndpointVal{Addr: vip.Addr, PortBe: uint16(i), Cluster: 1})
	}
	var got [endpoints]int
	for client.Rnd = range uint64(endpoints * rounds) {
		out, err := bpf.Decide(why, client)
		if err != nil {
			t.Fatal(err)
		}
		got[out.PortBe]++
	}
	for i, n := range got {
		if n != rounds {
			t.Errorf("endpoint %d was chosen %d times of %d", i, n, rounds)
		}
	}
}

// alias builds the alias table of some weights, cluster i+1 having weight i, by
// Vose's method on integers: a column holds the sum of all weights, and every
// weight is filled into columns as many times as there are columns.
func alias(weights []uint32) bpf.SplitVal {
	n := uint32(len(weights))
	var sum uint32
	for _, weight := range weights {
		sum += weight
	}
	split := bpf.SplitVal{Columns: n, Total: sum}
	left := make([]uint32, n)
	var small, large []uint32
	for i, weight := range weights {
		split.Column[i] = bpf.Column{Cluster: uint64(i + 1), Cut: sum, Alias: uint32(i)}
		left[i] = weight * n
		if left[i] < sum {
			small = append(small, uint32(i))
		} else {
			large = append(large, uint32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[0], large[0]
		small = small[1:]
		split.Column[s].Cut, split.Column[s].Alias = left[s], l
		left[l] -= sum - left[s]
		if left[l] < sum {
			large, small = large[1:], append(small, l)
		}
	}
	return split
}
