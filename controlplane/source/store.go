package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A store keeps the last good objects of each file on disk, so that a controller
// that starts while a file is broken has what the one before had. It is one file
// for each source file, named by the hash of its name: a line with a checksum,
// then JSON.
type store struct {
	dir   string                       // empty: nothing is kept
	saved map[string][sha256.Size]byte // checksum of what is on disk, by source file
}

// storeVersion changes with the meaning of the model's fields. State of another
// version is not used.
const storeVersion = "heddle-objects-2"

// maxState bounds one file of the store. Models are smaller than their texts.
const maxState = 4 * maxFileSize

type record struct {
	File    string
	Objects []*object
}

func newStore(dir string) *store {
	return &store{dir: dir, saved: make(map[string][sha256.Size]byte)}
}

// load returns the last good objects of every file. What cannot be used is left
// out and reported: the files themselves are still there.
func (s *store) load() (map[string]map[id]*object, error) {
	out := make(map[string]map[id]*object)
	if s.dir == "" {
		return out, nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return out, fmt.Errorf("creating the state directory: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return out, fmt.Errorf("reading the state directory: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".objects" {
			continue
		}
		path := filepath.Join(s.dir, entry.Name())
		r, sum, err := readRecord(path)
		if err != nil {
			// It would be in the way for ever.
			errs = append(errs, fmt.Errorf("state file %s was not usable and is removed: %w", path, err), os.Remove(path))
			continue
		}
		good := make(map[id]*object, len(r.Objects))
		for _, o := range r.Objects {
			good[o.id()] = o
		}
		out[r.File], s.saved[r.File] = good, sum
	}
	return out, errors.Join(errs...)
}

func readRecord(path string) (record, [sha256.Size]byte, error) {
	var r record
	var sum [sha256.Size]byte
	f, err := os.Open(path)
	if err != nil {
		return r, sum, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return r, sum, err
	}
	head, body, _ := bytes.Cut(data, []byte("\n"))
	sum = sha256.Sum256(body)
	if string(head) != storeVersion+" "+hex.EncodeToString(sum[:]) {
		return r, sum, errors.New("it was cut off, or written by another version")
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, sum, err
	}
	for _, o := range r.Objects {
		if o == nil || o.id() == (id{}) {
			return r, sum, errors.New("it holds an object of no kind")
		}
	}
	return r, sum, nil
}

// save writes the objects of a file, if they are not what is on disk. It does not
// wait for the disk: after a power failure the checksum tells, and all that is
// lost is the memory of a good version whose file is bad now.
func (s *store) save(name string, good map[id]*object) error {
	if s.dir == "" {
		return nil
	}
	if len(good) == 0 {
		return s.forget(name)
	}
	r := record{File: name}
	for _, i := range slices.SortedFunc(maps.Keys(good), id.compare) {
		r.Objects = append(r.Objects, good[i])
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding the objects of file %s: %w", name, err)
	}
	sum := sha256.Sum256(body)
	if s.saved[name] == sum {
		return nil
	}
	path := s.path(name)
	if err := replace(path, storeVersion+" "+hex.EncodeToString(sum[:])+"\n", body); err != nil {
		return fmt.Errorf("remembering the objects of file %s: %w", name, err)
	}
	s.saved[name] = sum
	return nil
}

// replace writes a file so that a reader sees the old contents or the new ones.
func replace(path, head string, body []byte) error {
	// One fixed name: what a crash left behind is overwritten, not piled up.
	fresh := strings.TrimSuffix(path, filepath.Ext(path)) + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// O_EXCL: never through a symbolic link that someone left here.
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(head)
	if err == nil {
		_, err = f.Write(body)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// forget removes what is kept of a file that is gone.
func (s *store) forget(name string) error {
	if _, kept := s.saved[name]; !kept {
		return nil
	}
	delete(s.saved, name)
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the objects of file %s: %w", name, err)
	}
	return nil
}

func (s *store) path(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16])+".objects")
}
