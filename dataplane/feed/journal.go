package feed

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"heddle.io/heddle/dataplane/disk"
)

// A journal is the disk cache, which lets a node start without a controller: the
// responses that were accepted, one after the other, as they came. So a change
// costs what it is large, and nothing of the encoded resources stays in memory.
// What newer ones replaced is left out when the file is rewritten. Format,
// version 3:
//
//	"heddle feed cache 3\n"
//	frames: length of the body and its CRC-32C, four bytes big-endian each; body
//	the first body: the node's name
//	the others: 0 (more follows that belongs to it) or 1, and a
//	DeltaDiscoveryResponse, or a part of one
//
// What follows the last 1 was being written when the process or the
// machine stopped, and does not count: the state is that of a moment before. A
// response is never taken in part, as a missing resource looks like a removed
// one.
type journal struct {
	path string
	node string

	file    *os.File // nil: it is made by the next write
	size    int64    // of what counts in the file
	pending []byte   // frames that are not in the file yet
	lost    bool     // more had to wait than is kept: the file is given up
}

const (
	cacheMagic    = "heddle feed cache 3\n"
	maxCacheBytes = 256 << 20
	maxPending    = 64 << 20
	frameHead     = 8
	frameGoal     = 64 << 10 // bytes of a frame; one resource alone may be more
	maxFrame      = maxResource + frameGoal
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame appends a frame.
func frame(to []byte, body ...[]byte) []byte {
	at := len(to)
	to = append(to, make([]byte, frameHead)...)
	for _, b := range body {
		to = append(to, b...)
	}
	binary.BigEndian.PutUint32(to[at:], uint32(len(to)-at-frameHead))
	binary.BigEndian.PutUint32(to[at+4:], crc32.Checksum(to[at+frameHead:], castagnoli))
	return to
}

// frames appends a response, in parts that are not large. more says that it
// does not count without what follows it.
func frames(to []byte, r *discovery.DeltaDiscoveryResponse, more bool) ([]byte, error) {
	part, size := &discovery.DeltaDiscoveryResponse{TypeUrl: r.TypeUrl}, 0
	put := func(last bool) error {
		body, err := proto.Marshal(part)
		if err != nil {
			return fmt.Errorf("encoding %s resources: %w", typeName(r.TypeUrl), err)
		}
		mark := []byte{0}
		if last && !more {
			mark[0] = 1
		}
		to = frame(to, mark, body)
		part, size = &discovery.DeltaDiscoveryResponse{TypeUrl: r.TypeUrl}, 0
		return nil
	}
	full := func(n int) error {
		if size += n; size < frameGoal {
			return nil
		}
		return put(false)
	}
	for _, name := range r.RemovedResources {
		part.RemovedResources = append(part.RemovedResources, name)
		if err := full(len(name)); err != nil {
			return to, err
		}
	}
	for _, resource := range r.Resources {
		part.Resources = append(part.Resources, resource)
		if err := full(len(resource.GetName()) + len(resource.GetResource().GetValue())); err != nil {
			return to, err
		}
	}
	err := put(true)
	return to, err
}

// add writes a response to the end, without waiting for the disk. What cannot be
// written is kept, and written with the next call.
func (j *journal) add(r *discovery.DeltaDiscoveryResponse) error {
	if j.lost {
		return errLost
	}
	var err error
	if j.pending, err = frames(j.pending, r, false); err != nil {
		return err
	}
	return j.flush()
}

var errLost = errors.New("it could not be written for too long; make room and restart the agent")

// flush writes what waits.
func (j *journal) flush() error {
	if len(j.pending) == 0 || j.lost {
		return nil
	}
	err := j.write()
	if err != nil && len(j.pending) > maxPending {
		// A file without these changes would be taken for the last good state.
		j.lost, j.pending = true, nil
		j.close()
		return errors.Join(errLost, err, os.Remove(j.path))
	}
	return err
}

func (j *journal) write() error {
	if j.file == nil {
		f, err := disk.Create(j.path)
		if err != nil {
			return err
		}
		if err := j.begin(f); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := disk.Rename(j.path); err != nil {
			return errors.Join(err, f.Close())
		}
		j.file = f
	}
	if j.size+int64(len(j.pending)) > maxCacheBytes {
		return fmt.Errorf("cache has %d bytes, the limit is %d", j.size+int64(len(j.pending)), maxCacheBytes)
	}
	if _, err := j.file.WriteAt(j.pending, j.size); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", j.path, err), j.file.Truncate(j.size))
	}
	j.size += int64(len(j.pending))
	j.pending = nil
	return nil
}

// begin writes what stands before the responses.
func (j *journal) begin(f *os.File) error {
	n, err := f.Write(frame([]byte(cacheMagic), []byte(j.node)))
	j.size = int64(n)
	return err
}

func (j *journal) close() {
	if j.file != nil {
		j.file.Close()
		j.file = nil
	}
}

// moved says whether the file is not at its path any more.
func (j *journal) moved() bool {
	if j.file == nil {
		return false
	}
	here, err := j.file.Stat()
	if err != nil {
		return true
	}
	there, err := os.Stat(j.path)
	return err != nil || !os.SameFile(here, there)
}

// rewrite makes a new file of those resources for which keep is true; types are
// those that the file has to name even without a resource.
func (j *journal) rewrite(types []string, keep func(typeURL string, r *discovery.Resource) bool) error {
	next := &journal{path: j.path, node: j.node}
	var err error
	if next.file, err = disk.Create(j.path); err != nil {
		return err
	}
	if err := next.copy(j, types, keep); err != nil {
		return errors.Join(err, next.file.Close())
	}
	if err := disk.Rename(j.path); err != nil {
		return errors.Join(err, next.file.Close())
	}
	j.close()
	j.file, j.size = next.file, next.size
	return nil
}

func (j *journal) copy(from *journal, types []string, keep func(typeURL string, r *discovery.Resource) bool) error {
	if err := j.begin(j.file); err != nil {
		return err
	}
	// Nothing counts before all is there: after a loss of power, the file may be
	// a part of itself.
	put := func(r *discovery.DeltaDiscoveryResponse, more bool) (err error) {
		if j.pending, err = frames(j.pending, r, more); err != nil {
			return err
		}
		return j.write()
	}
	for _, typeURL := range types {
		if err := put(&discovery.DeltaDiscoveryResponse{TypeUrl: typeURL}, true); err != nil {
			return err
		}
	}
	err := replay(from.file, from.node, from.size, func(r *discovery.DeltaDiscoveryResponse) error {
		kept := r.Resources[:0]
		for _, resource := range r.Resources {
			if keep(r.TypeUrl, resource) {
				kept = append(kept, resource)
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return put(&discovery.DeltaDiscoveryResponse{TypeUrl: r.TypeUrl, Resources: kept}, true)
	})
	if err != nil {
		return err
	}
	return put(&discovery.DeltaDiscoveryResponse{TypeUrl: types[0]}, false)
}

// openJournal opens the file at path, which must be this node's, and applies
// what it holds. The file is not changed before cut is called. A missing file is
// fs.ErrNotExist.
func openJournal(path, node string, apply func(*discovery.DeltaDiscoveryResponse) error) (*journal, error) {
	f, err := disk.Open(path, maxCacheBytes)
	if err != nil {
		return nil, err
	}
	size, err := whole(f)
	if err == nil {
		err = replay(f, node, size, apply)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &journal{path: path, node: node, file: f, size: size}, nil
}

// cut takes away what does not count.
func (j *journal) cut() error { return j.file.Truncate(j.size) }

// whole returns the size of what counts: up to the end of the last response
// that is there as a whole.
func whole(f io.ReaderAt) (int64, error) {
	r := newFrameReader(f, maxCacheBytes)
	if err := r.magic(); err != nil {
		return 0, err
	}
	if _, err := r.next(); err != nil {
		return 0, errors.New("damaged in the node's name")
	}
	size := r.at
	for {
		body, err := r.next()
		if err != nil {
			return size, nil
		}
		if body[0] == 1 {
			size = r.at
		}
	}
}

// replay decodes the responses, or their parts, up to an offset.
func replay(f io.ReaderAt, node string, size int64, apply func(*discovery.DeltaDiscoveryResponse) error) error {
	r := newFrameReader(f, size)
	if err := r.magic(); err != nil {
		return err
	}
	owner, err := r.next()
	if err != nil {
		return err
	}
	if string(owner) != node {
		return fmt.Errorf("it belongs to node %q", printable(string(owner)))
	}
	for r.at < size {
		body, err := r.next()
		if err != nil {
			return err
		}
		var response discovery.DeltaDiscoveryResponse
		if err := proto.Unmarshal(body[1:], &response); err != nil {
			return fmt.Errorf("reading a response: %w", err)
		}
		if err := apply(&response); err != nil {
			return err
		}
	}
	return nil
}

// frameReader reads frames from the start of a file.
type frameReader struct {
	r    *bufio.Reader
	at   int64 // of the next frame
	size int64
	body []byte
}

func newFrameReader(f io.ReaderAt, size int64) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(io.NewSectionReader(f, 0, size), frameGoal), size: size}
}

func (r *frameReader) magic() error {
	head := make([]byte, len(cacheMagic))
	if _, err := io.ReadFull(r.r, head); err != nil || string(head) != cacheMagic {
		return errors.New("not a feed cache of this version")
	}
	r.at = int64(len(head))
	return nil
}

// next returns the body of the next frame, which is good until the next call and
// has at least one byte.
func (r *frameReader) next() ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n < 1 || n > maxFrame || n > r.size-r.at {
		return nil, errDamaged
	}
	if int64(cap(r.body)) < n {
		r.body = make([]byte, n)
	}
	r.body = r.body[:n]
	if _, err := io.ReadFull(r.r, r.body); err != nil {
		return nil, err
	}
	if crc32.Checksum(r.body, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, errDamaged
	}
	r.at += frameHead + n
	return r.body, nil
}

var errDamaged = errors.New("checksum does not match: the file is damaged")
