package feed

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
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
		st, err := cached(t, file)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.services.values["shop/cart"].Ports[0].Clusters[0].Weight; got != 10+i {
			t.Fatalf("the file has weight %d when %d is published", got, 10+i)
		}
	}
}

// A large response is written in parts, and what it replaced is left out sooner
// or later.
func TestCacheIsRewritten(t *testing.T) {
	s, file := cachedServer(t)
	c := run(t, Options{Server: s.Address(), Cache: file})
	grow := func(port uint32) {
		for i := range 12 { // more than cacheSlack together
			big := feedtest.Cluster("cart")
			big.Name = fmt.Sprintf("shop/big%d/80/tcp", i)
			for j := range 5000 {
				big.Endpoints = append(big.Endpoints, &xds.Endpoint{Address: []byte{10, byte(i), byte(j >> 8), byte(j)}, Port: port, Health: xds.Health_READY, Node: node})
			}
			s.Set(xds.ClusterType, big.Name, big)
		}
		c.until("all of them", func(s *state.Snapshot) bool {
			for i := range 12 {
				c := s.Clusters[fmt.Sprintf("shop/big%d/80/tcp", i)]
				if len(c.Endpoints) == 0 || c.Endpoints[len(c.Endpoints)-1].Address.Port() != uint16(port) {
					return false
				}
			}
			return true
		})
	}
	for port := range uint32(6) {
		grow(1 + port)
	}
	s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 99))
	c.until(hasWeight("cart", 99))
	st, err := cached(t, file)
	if err != nil || len(st.clusters.entries) != 13 || st.services.values["shop/cart"].Ports[0].Clusters[0].Weight != 99 {
		t.Fatalf("%d resources in the file, error %v", st.size(), err)
	}
	eventually(t, "a file without old versions", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() < int64(2*st.bytes()+cacheSlack)
	})
	if again, err := cached(t, file); err != nil || again.size() != st.size() || again.bytes() != st.bytes() {
		t.Fatalf("%d resources in the file after it was rewritten, want %d, error %v", again.size(), st.size(), err)
	}
	for i := range 12 {
		s.Remove(xds.ClusterType, fmt.Sprintf("shop/big%d/80/tcp", i))
	}
	c.until("none of them", func(s *state.Snapshot) bool { return len(s.Clusters) == 1 })
	eventually(t, "a small file", func() bool { info, err := os.Stat(file); return err == nil && info.Size() < cacheSlack })
	c.stop()
	// A file that is a part of a rewritten one is not used.
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decoded(t, data[:len(data)-1]); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a part of a rewritten file: error %v", err)
	}
	s.Kill()
	c = run(t, Options{Server: s.Address(), Cache: file})
	if u := c.until(hasWeight("cart", 99)); len(u.Snapshot.Clusters) != 1 || len(u.Snapshot.Workloads) != 1 {
		t.Errorf("the rewritten file gives %+v", u.Snapshot)
	}
}

// A file that somebody took away comes back with the next change.
func TestCacheComesBack(t *testing.T) {
	s, file := cachedServer(t)
	c := run(t, Options{Server: s.Address(), Cache: file})
	c.until(hasWeight("cart", 1))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 2))
	c.until(hasWeight("cart", 2))
	eventually(t, "the file", func() bool {
		st, err := cached(t, file)
		return err == nil && st.size() == 4 && st.services.values["shop/cart"].Ports[0].Clusters[0].Weight == 2
	})
}

// What was being written when the agent was killed does not count.
func TestCacheIsCutAtTheLastResponse(t *testing.T) {
	s, file := cachedServer(t)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	large := &discovery.DeltaDiscoveryResponse{TypeUrl: xds.ClusterType}
	for i := range 3 {
		large.Resources = append(large.Resources, &discovery.Resource{Name: fmt.Sprint(i), Resource: &anypb.Any{Value: make([]byte, frameGoal)}})
	}
	more, err := frames(nil, large, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, 7, 8, 100, frameGoal + 200, len(more) - 1} {
		if err := os.WriteFile(file, append(slices.Clone(good), more[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		c := run(t, Options{Server: s.Address(), Cache: file})
		c.until(hasWeight("cart", 1))
		s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 5))
		c.until(hasWeight("cart", 5))
		c.stop()
		if st, err := cached(t, file); err != nil || st.size() != 4 {
			t.Errorf("cut at %d: error %v", cut, err)
		}
		s.Set(xds.ServiceType, "shop/cart", feedtest.Service("cart", 1))
	}
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
		st, err := cached(t, file)
		if err != nil {
			t.Fatalf("a reader saw a broken file: %v", err)
		}
		return st.services.values["shop/cart"].Ports[0].Clusters[0].Weight == 59
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
	bad := &discovery.DeltaDiscoveryResponse{TypeUrl: xds.NodeType,
		Resources: []*discovery.Resource{{Name: "x", Resource: &anypb.Any{TypeUrl: xds.NodeType}}}}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"empty":         {nil, "not a feed cache"},
		"other":         {[]byte("heddle feed cache 1\n" + strings.Repeat("x", 100)), "not a feed cache"},
		"flipped bit":   {flipped, "resources are missing"},
		"cut":           {good[:len(cacheMagic)+len(node)+3], "damaged in the node's name"},
		"half":          {good[:len(good)/2], "resources are missing"},
		"other node":    {mustEncode(t, "node2"), "belongs to node"},
		"bad resource":  {mustEncode(t, node, bad), "name is empty"},
		"unknown type":  {mustEncode(t, node, &discovery.DeltaDiscoveryResponse{TypeUrl: "x"}), "unknown type"},
		"types missing": {mustEncode(t, node), "the Node resources are missing"},
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

// However large a response is, no frame is larger than what is read again.
func TestFramesAreSmall(t *testing.T) {
	r := &discovery.DeltaDiscoveryResponse{TypeUrl: xds.ClusterType}
	for i := range 200_000 {
		r.RemovedResources = append(r.RemovedResources, fmt.Sprintf("team/a-service-that-is-gone-%d/80/tcp", i))
	}
	for i := range 5 {
		r.Resources = append(r.Resources, &discovery.Resource{Name: fmt.Sprint(i), Resource: &anypb.Any{Value: make([]byte, maxResource)}})
	}
	data := mustEncode(t, node, r)
	size, err := whole(bytes.NewReader(data))
	if err != nil || size != int64(len(data)) {
		t.Fatalf("%d bytes of %d count, error %v", size, len(data), err)
	}
	removed, resources := 0, 0
	err = replay(bytes.NewReader(data), node, size, func(part *discovery.DeltaDiscoveryResponse) error {
		removed += len(part.RemovedResources)
		resources += len(part.Resources)
		return nil
	})
	if err != nil || removed != 200_000 || resources != 5 {
		t.Errorf("%d removed, %d resources, error %v", removed, resources, err)
	}
}

// cached reads a copy of a file that may be in use.
func cached(t *testing.T, file string) (*store, error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		return newStore(node), err
	}
	return decoded(t, data)
}

func decoded(t *testing.T, data []byte) (*store, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "feed")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStore(node)
	j, err := restore(path, node, s)
	if err == nil {
		j.close()
	}
	return s, err
}

func mustEncode(t testing.TB, node string, responses ...*discovery.DeltaDiscoveryResponse) []byte {
	t.Helper()
	data := frame([]byte(cacheMagic), []byte(node))
	var err error
	for _, r := range responses {
		if data, err = frames(data, r, false); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// resum gives every frame the right checksum for what it holds.
func resum(data []byte) []byte {
	for at := len(cacheMagic); at+frameHead <= len(data); {
		n := int(binary.BigEndian.Uint32(data[at:]))
		if n > len(data)-at-frameHead {
			break
		}
		body := data[at+frameHead : at+frameHead+n]
		binary.BigEndian.PutUint32(data[at+4:], crc32.Checksum(body, castagnoli))
		at += frameHead + n
	}
	return data
}

// FuzzCache feeds the reader files with right checksums, so that the fuzzer
// gets past them.
func FuzzCache(f *testing.F) {
	cart := &discovery.DeltaDiscoveryResponse{TypeUrl: xds.ServiceType,
		Resources: []*discovery.Resource{{Name: "shop/cart", Version: "1", Resource: encoded(f, feedtest.Service("cart", 1))}}}
	all := []*discovery.DeltaDiscoveryResponse{cart}
	for _, typeURL := range xds.Types {
		all = append(all, &discovery.DeltaDiscoveryResponse{TypeUrl: typeURL, RemovedResources: []string{"x"}})
	}
	f.Add(mustEncode(f, node, all...))
	f.Add(mustEncode(f, node))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		st, err := decoded(t, resum(slices.Clone(data)))
		if err == nil && st.size() > len(data) {
			t.Fatalf("%d resources out of %d bytes", st.size(), len(data))
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("took %v for %d bytes", took, len(data))
		}
	})
}
