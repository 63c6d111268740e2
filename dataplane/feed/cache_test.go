package feed

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/feed/feedtest"
	"heddle.io/heddle/dataplane/state"
)

// cachedServer returns a server, and a client of it that wrote its cache.
func cachedServer(t *testing.T) (*feedtest.Server, string) {
	s := feedtest.New(t)
	s.SetShop()
	file := filepath.Join(t.TempDir(), "state", "feed")
	c := run(t, Options{Server: s.Address(), Cache: file})
	c.until(hasWeight("cart", 1))
	eventually(t, "a cache file", func() bool { _, err := os.Stat(file); return err == nil })
	c.stop()
	return s, file
}

func TestRestartWithoutServerUsesCache(t *testing.T) {
	s, file := cachedServer(t)
	s.Kill()
	c := run(t, Options{Server: s.Address(), Cache: file})
	u := c.until(hasWeight("cart", 1))
	if !u.FromCache || len(u.Snapshot.Workloads) != 1 || u.Snapshot.Node.Zone != "z1" {
		t.Errorf("update is %+v", u)
	}
	if status := c.Status(); !status.Synced || !status.FromCache || status.Resources != 4 {
		t.Errorf("status is %+v", status)
	}

	// The server comes back with a change and a removal; both arrive, although
	// it only sends differences.
	s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 2))
	s.Remove(xds.WorkloadType, "shop/web")
	s.Start()
	c.until("a confirmed state", func(*state.Snapshot) bool { return !c.last.FromCache })
	if _, ok := hasWeight("cart", 2); !ok(c.last.Snapshot) || len(c.last.Snapshot.Workloads) != 0 {
		t.Errorf("snapshot is %+v", c.last.Snapshot)
	}
	if c.Status().FromCache {
		t.Error("still from the cache")
	}
}

// Who acts on an update and is killed finds it in the file.
func TestCacheIsWrittenBeforePublishing(t *testing.T) {
	s, file := cachedServer(t)
	c := run(t, Options{Server: s.Address(), Cache: file})
	for i := range uint32(20) {
		s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 10+i))
		c.until(hasWeight("cart", 10+i))
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		st, err := decodeCache(node, data)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.services.entries["shop/cart"].value.Ports[0].Clusters[0].Weight; got != 10+i {
			t.Fatalf("the file has weight %d when %d is published", got, 10+i)
		}
	}
}

// A large state is written behind; the last change gets there.
func TestLargeCacheIsWrittenBehind(t *testing.T) {
	s, file := cachedServer(t)
	c := run(t, Options{Server: s.Address(), Cache: file})
	for i := range 12 { // more than cacheSmall together
		big := feedtest.Cluster("cart")
		big.Name = fmt.Sprintf("shop/big%d/80/tcp", i)
		for j := range 5000 {
			big.Endpoints = append(big.Endpoints, &xds.Endpoint{Address: []byte{10, byte(i), byte(j >> 8), byte(j)}, Port: 1, Health: xds.Health_READY, Node: node})
		}
		s.Set(xds.ClusterType, big.Name, big)
	}
	c.until("all of them", func(s *state.Snapshot) bool { return len(s.Clusters) == 13 })
	s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 99))
	c.until(hasWeight("cart", 99))
	saved := func() bool {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		st, err := decodeCache(node, data)
		return err == nil && len(data) > cacheSmall && st.services.entries["shop/cart"].value.Ports[0].Clusters[0].Weight == 99
	}
	eventually(t, "the last change in the file", saved)
	// And shrinks back to a small one.
	for i := range 12 {
		s.Remove(xds.ClusterType, fmt.Sprintf("shop/big%d/80/tcp", i))
	}
	c.until("none of them", func(s *state.Snapshot) bool { return len(s.Clusters) == 1 })
	eventually(t, "a small file", func() bool { info, err := os.Stat(file); return err == nil && info.Size() < cacheSmall })
}

// The file follows changes while the agent runs: an agent that is killed has
// no chance to write it.
func TestCacheIsWrittenAsItGoes(t *testing.T) {
	s, file := cachedServer(t)
	c := run(t, Options{Server: s.Address(), Cache: file})
	c.until(hasWeight("cart", 1))
	for i := range uint32(50) {
		s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 10+i))
	}
	eventually(t, "the last change in the file", func() bool {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		st, err := decodeCache(node, data)
		if err != nil {
			t.Fatalf("a reader saw a broken file: %v", err)
		}
		return st.services.entries["shop/cart"].value.Ports[0].Clusters[0].Weight == 59
	})
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v (%v), want 0600", info.Mode().Perm(), err)
	}
}

func TestUnusableCacheIsNotTrusted(t *testing.T) {
	s, file := cachedServer(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"empty":       {nil, "not a feed cache"},
		"other":       {[]byte("heddle feed cache 1\n" + strings.Repeat("x", 100)), "not a feed cache"},
		"flipped bit": {flipped, "checksum"},
		"cut":         {good[:len(good)-3], "checksum"},
		"longer":      {resum(append(slices.Clone(good), 0)), "after the end"},
		"other node":  {mustEncode(t, "node2"), "belongs to node"},
		"bad resource": {mustEncode(t, node, &discovery.DeltaDiscoveryResponse{TypeUrl: xds.NodeType,
			Resources: []*discovery.Resource{{Name: "x", Resource: &anypb.Any{TypeUrl: xds.NodeType}}}}), "name is empty"},
		"types missing": {mustEncode(t, node), "reading the Node resources"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, test.data, 0o600); err != nil {
				t.Fatal(err)
			}
			c := run(t, Options{Server: "unix://" + filepath.Join(t.TempDir(), "none"), Cache: file})
			eventually(t, "an attempt to connect", func() bool { return c.Status().Error != "" })
			if c.Status().Synced {
				t.Error("synced from a bad cache")
			}
			problems := c.Problems()
			if len(problems) != 1 || problems[0].Reason != "CacheUnusable" || !strings.Contains(problems[0].Detail, test.want) {
				t.Errorf("problems are %v, want one with %q", problems, test.want)
			}
			c.stop()
			if now, _ := os.ReadFile(file); string(now) != string(test.data) {
				t.Error("the file was overwritten although nothing is known")
			}
		})
	}
	// The server repairs it.
	c := run(t, Options{Server: s.Address(), Cache: file})
	c.until(hasWeight("cart", 1))
	eventually(t, "no problems", func() bool { return len(c.Problems()) == 0 })
}

func TestOversizedCacheIsNotRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "feed")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, maxCacheBytes+1); err != nil { // sparse
		t.Fatal(err)
	}
	c := run(t, Options{Server: "unix://" + filepath.Join(t.TempDir(), "none"), Cache: file})
	eventually(t, "a problem", func() bool { return len(c.Problems()) == 1 })
	if detail := c.Problems()[0].Detail; !strings.Contains(detail, "larger than the limit") {
		t.Errorf("detail is %q", detail)
	}
}

func TestUnwritableCacheIsReported(t *testing.T) {
	s := feedtest.New(t)
	s.SetShop()
	file := filepath.Join(t.TempDir(), "not-a-directory")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := run(t, Options{Server: s.Address(), Cache: filepath.Join(file, "feed")})
	c.until(hasWeight("cart", 1))
	eventually(t, "a problem", func() bool { return len(c.Problems()) == 1 && c.Problems()[0].Reason == "CacheUnusable" })
	// It is written as soon as that is possible, without a further change.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no problem", func() bool { return len(c.Problems()) == 0 })
	if _, err := os.Stat(filepath.Join(file, "feed")); err != nil {
		t.Error(err)
	}
}

func mustEncode(t testing.TB, node string, responses ...*discovery.DeltaDiscoveryResponse) []byte {
	data, err := encodeCache(node, responses)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// resum gives data the right checksum for what it holds.
func resum(data []byte) []byte {
	sum := sha256.Sum256(data[cacheHeader:])
	copy(data[len(cacheMagic):], sum[:])
	return data
}

// FuzzCache feeds the reader files with a right checksum, so that the fuzzer
// gets past it.
func FuzzCache(f *testing.F) {
	st := newStore(node)
	must := func(url, name string, m *anypb.Any) {
		if err := st.of(url).put(&discovery.Resource{Name: name, Version: "1", Resource: m}); err != nil {
			f.Fatal(err)
		}
	}
	must(xds.ServiceType, "shop/cart", encoded(f, feedtest.Service("cart", 1)))
	must(xds.ClusterType, feedtest.ClusterName("cart"), encoded(f, feedtest.Cluster("cart", 1, 2)))
	var responses []*discovery.DeltaDiscoveryResponse
	for _, t := range st.tables() {
		responses = append(responses, &discovery.DeltaDiscoveryResponse{TypeUrl: t.typeURL(), Resources: t.encode()})
	}
	f.Add(mustEncode(f, node, responses...))
	f.Add(mustEncode(f, node))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		if len(data) >= cacheHeader {
			data = resum(slices.Clone(data))
		}
		st, err := decodeCache(node, data)
		if err == nil && st.size() > len(data) {
			t.Fatalf("%d resources out of %d bytes", st.size(), len(data))
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("took %v for %d bytes", took, len(data))
		}
	})
}
