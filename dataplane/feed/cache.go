package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protodelim"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/dataplane/disk"
)

// The disk cache lets a node start without a controller. Format, version 2:
//
//	"heddle feed cache 2\n"
//	SHA-256 of everything that follows
//	length of the node's name, two bytes big-endian, and the name
//	for every type of xds.Types, one length-delimited DeltaDiscoveryResponse
//	with all its resources
//
// The whole file is trusted or none of it: a missing resource would be taken
// for a removed one.
const (
	cacheMagic    = "heddle feed cache 2\n"
	cacheHeader   = len(cacheMagic) + sha256.Size
	maxCacheBytes = 256 << 20
)

// Writing the cache. A state that is small to write is written before it is
// published, so that a killed agent never finds a cache older than the kernel's
// tables; a large one is written behind, at most every cacheEvery. Either way
// the disk is waited for behind, at the same pace.
const (
	cacheEvery = 200 * time.Millisecond
	cacheSmall = 1 << 20 // bytes; some milliseconds to encode and write
)

// encodeCache renders the responses, one for each type, for the disk.
func encodeCache(node string, responses []*discovery.DeltaDiscoveryResponse) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(cacheMagic)
	b.Write(make([]byte, sha256.Size))
	b.Write(binary.BigEndian.AppendUint16(nil, uint16(len(node))))
	b.WriteString(node)
	for _, r := range responses {
		if _, err := protodelim.MarshalTo(&b, r); err != nil {
			return nil, fmt.Errorf("encoding the %s resources: %w", typeName(r.TypeUrl), err)
		}
	}
	if b.Len() > maxCacheBytes {
		return nil, fmt.Errorf("cache has %d bytes, the limit is %d", b.Len(), maxCacheBytes)
	}
	sum := sha256.Sum256(b.Bytes()[cacheHeader:])
	copy(b.Bytes()[len(cacheMagic):], sum[:])
	return b.Bytes(), nil
}

// decodeCache checks data and returns a store with its resources. Every
// resource passes the same checks as one from the server.
func decodeCache(node string, data []byte) (*store, error) {
	if len(data) < cacheHeader+2 || string(data[:len(cacheMagic)]) != cacheMagic {
		return nil, errors.New("not a feed cache of this version")
	}
	body := data[cacheHeader:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[len(cacheMagic):cacheHeader]) {
		return nil, errors.New("checksum does not match: the file is damaged")
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	if n > len(body) {
		return nil, errors.New("cut short in the node's name")
	}
	if owner := string(body[:n]); owner != node {
		return nil, fmt.Errorf("it belongs to node %q", printable(owner))
	}
	return decodeCachedTypes(node, bytes.NewReader(body[n:]))
}

func decodeCachedTypes(node string, r *bytes.Reader) (*store, error) {
	s := newStore(node)
	for _, typeURL := range xds.Types {
		var response discovery.DeltaDiscoveryResponse
		if err := (protodelim.UnmarshalOptions{MaxSize: maxCacheBytes}).UnmarshalFrom(r, &response); err != nil {
			return nil, fmt.Errorf("reading the %s resources: %w", typeName(typeURL), err)
		}
		if response.TypeUrl != typeURL {
			return nil, fmt.Errorf("%q in the place of %s", printable(response.TypeUrl), typeURL)
		}
		for _, resource := range response.Resources {
			if err := s.of(typeURL).put(resource); err != nil {
				return nil, fmt.Errorf("%s %s: %w", typeName(typeURL), printable(resource.GetName()), err)
			}
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return nil, errors.New("bytes after the end")
	}
	return s, nil
}

// loadCache fills the store from disk. Without a usable cache the feed starts
// empty and unsynced, which leaves the kernel as it is.
func (f *Feed) loadCache() {
	if f.o.Cache == "" {
		return
	}
	data, err := disk.Read(f.o.Cache, maxCacheBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var s *store
	if err == nil {
		s, err = decodeCache(f.o.Node, data)
	}
	if err != nil {
		f.o.Log.Warn("feed cache is not usable; starting without it: pods stay as the kernel has them until the control plane answers",
			"file", f.o.Cache, "error", err)
		f.mu.Lock()
		f.mu.cacheError = fmt.Errorf("not usable at start: %w", err)
		f.mu.Unlock()
		return
	}
	f.o.Log.Info("feed cache loaded", "file", f.o.Cache, "resources", s.size())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.store = s
	f.mu.fromCache = true
	f.publishLocked(time.Now())
}

// putLocked writes what is in force, without waiting for the disk.
func (f *Feed) putLocked() {
	data, err := f.encodeLocked()
	if err == nil {
		err = disk.Put(f.o.Cache, data)
	}
	f.mu.behind = err != nil || len(data) > cacheSmall
	f.savedLocked(err)
}

func (f *Feed) encodeLocked() ([]byte, error) {
	var responses []*discovery.DeltaDiscoveryResponse
	for _, t := range f.mu.store.tables() {
		responses = append(responses, &discovery.DeltaDiscoveryResponse{TypeUrl: t.typeURL(), Resources: t.encode()})
	}
	return encodeCache(f.o.Node, responses)
}

// saveCache brings the file up to date, waits for the disk, and returns how
// long that took. Only settle calls it; putLocked does not write while
// mu.behind is set, so there is one writer.
func (f *Feed) saveCache() time.Duration {
	start := time.Now()
	f.mu.Lock()
	var data []byte
	var err error
	behind := f.mu.behind
	if behind {
		data, err = f.encodeLocked()
	}
	f.mu.unsaved = false
	f.mu.Unlock()

	if behind && err == nil {
		err = disk.Put(f.o.Cache, data)
	}
	if err == nil {
		err = disk.Sync(f.o.Cache)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// What changed meanwhile, or could not be written, is left to the next call.
	f.mu.unsaved = f.mu.unsaved || err != nil
	f.mu.behind = err != nil || behind && (len(data) > cacheSmall || f.mu.unsaved)
	f.savedLocked(err)
	return time.Since(start)
}

func (f *Feed) savedLocked(err error) {
	if err != nil && f.mu.cacheError == nil {
		f.o.Log.Warn("feed cache cannot be written; a restart without a controller would start from an older state",
			"file", f.o.Cache, "error", err)
	}
	f.mu.cacheError = err
}
