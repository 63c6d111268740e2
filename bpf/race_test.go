package bpf_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"heddle.io/heddle/bpf"
)

// TestDecideUnderChange keeps asking while services change their clusters and
// clusters their size, in the order in which the agent writes. No question is
// refused, and none gets an endpoint of another service, although the kernel
// reuses the memory of replaced elements at once, and a lookup may miss an
// element that is being replaced. Full maps have many elements per bucket.
func TestDecideUnderChange(t *testing.T) {
	const services, most = 4, 8
	why, tables := loadSized(t, bpf.ProgWhy, map[string]uint32{
		bpf.MapServices:  services,
		bpf.MapSplits:    services,
		bpf.MapClusters:  2 * services,
		bpf.MapEndpoints: 2 * services * most,
	})
	client, _ := enrolledClient(t, tables)
	vip := func(s int) bpf.ServiceKey {
		return bpf.ServiceKey{Addr: client.Addr, PortBe: bpf.PortBE(uint16(80 + s)), Proto: tcp}
	}
	// Service s owns clusters 2s+1 and 2s+2; its endpoints say so in their port.
	endpoint := func(cluster uint64) bpf.EndpointVal {
		return bpf.EndpointVal{Addr: client.Addr, PortBe: bpf.PortBE(uint16((cluster - 1) / 2)), Cluster: cluster}
	}
	sizes := map[uint64]uint32{}
	resize := func(cluster uint64, size uint32) {
		count := tables[bpf.MapClusters]
		for ; sizes[cluster] < size; sizes[cluster]++ {
			put(t, tables[bpf.MapEndpoints], bpf.EndpointKey{Cluster: cluster, Index: sizes[cluster]}, endpoint(cluster))
			put(t, count, cluster, bpf.ClusterVal{Count: sizes[cluster] + 1})
		}
		for ; sizes[cluster] > size; sizes[cluster]-- {
			put(t, count, cluster, bpf.ClusterVal{Count: sizes[cluster] - 1})
			if err := tables[bpf.MapEndpoints].Delete(bpf.EndpointKey{Cluster: cluster, Index: sizes[cluster] - 1}); err != nil {
				t.Error(err)
			}
		}
	}
	point := func(s int, rng *rand.Rand) {
		first, second := uint64(2*s+1), uint64(2*s+2)
		val := bpf.ServiceVal{Service: uint64(s + 1), Cluster: first + rng.Uint64N(2)}
		if rng.IntN(2) == 0 {
			split := bpf.SplitVal{Columns: 2, Total: 2}
			split.Column[0] = bpf.Column{Cluster: first, Cut: rng.Uint32N(3), Alias: 1}
			split.Column[1] = bpf.Column{Cluster: second, Cut: rng.Uint32N(3), Alias: 0}
			put(t, tables[bpf.MapSplits], uint64(s+1), split)
			val.Split = uint64(s + 1)
		}
		put(t, tables[bpf.MapServices], vip(s), val)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for s := range services {
		resize(uint64(2*s+1), most)
		resize(uint64(2*s+2), most)
		point(s, rng)
	}

	stop := make(chan struct{})
	asked := make(chan int)
	go func() {
		rng := rand.New(rand.NewPCG(5, 6))
		n := 0
		defer func() { asked <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			s := rng.IntN(services)
			in := client
			in.PortBe, in.Rnd = vip(s).PortBe, rng.Uint64()
			out, err := bpf.Decide(why, in)
			if err != nil {
				t.Error(err)
				return
			}
			n++
			if out.Reason != bpf.ReasonBalanced || int(bpf.Port(out.PortBe)) != s {
				t.Errorf("question %d, service %d: %s", n, s, show(out))
				return
			}
		}
	}()
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline) && !t.Failed(); {
		s := rng.IntN(services)
		point(s, rng)
		resize(uint64(2*s+1)+rng.Uint64N(2), 1+rng.Uint32N(most))
	}
	close(stop)
	t.Logf("%d questions", <-asked)
}
