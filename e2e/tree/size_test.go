package tree

import (
	"bytes"
	"path/filepath"
	"testing"
)

// A file is one concept. 400 lines is what most need; over 600 it has to be
// listed here with the reason why two files would be harder to read.
const (
	goal  = 400
	limit = 600
)

var large = map[string]string{}

func TestFilesAreSmall(t *testing.T) {
	sizes := map[string]int{}
	for _, p := range packages(t) {
		for _, f := range p.files {
			if !f.generated {
				sizes[f.path] = bytes.Count(f.src, []byte("\n"))
			}
		}
	}
	for _, name := range tracked(t) {
		if ext := filepath.Ext(name); ext == ".c" || ext == ".h" {
			sizes[name] = bytes.Count([]byte(read(t, name)), []byte("\n"))
		}
	}
	over := 0
	for name, lines := range sizes {
		switch {
		case lines > limit && large[name] == "":
			t.Errorf("%s has %d lines, the limit is %d: split it by concept, or list it in e2e/tree/size_test.go with the reason", name, lines, limit)
		case lines <= limit && large[name] != "":
			t.Errorf("%s has %d lines and needs no exception any more: take it out of e2e/tree/size_test.go", name, lines)
		case lines > goal:
			over++
		}
	}
	if most := len(sizes) / 10; over > most {
		t.Errorf("%d of %d files have more than %d lines, at most one in ten should: split some by concept", over, len(sizes), goal)
	}
	for name := range large {
		if _, ok := sizes[name]; !ok {
			t.Errorf("size_test.go lists %s, which no longer exists: take it out", name)
		}
	}
}
