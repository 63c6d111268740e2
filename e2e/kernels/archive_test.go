package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entries reads an archive as the kernel does.
func entries(t *testing.T, text string) (names []string, data map[string]string) {
	t.Helper()
	data = map[string]string{}
	r := strings.NewReader(text)
	take := func(n int) string {
		part := make([]byte, n)
		if _, err := io.ReadFull(r, part); err != nil {
			t.Fatalf("the archive ends early, after %q: %v", names, err)
		}
		return string(part)
	}
	align := func() { take((4 - (len(text)-r.Len())%4) % 4) }
	for {
		if magic := take(6); magic != "070701" {
			t.Fatalf("magic is %q after %q", magic, names)
		}
		var field [13]int
		for i := range field {
			if _, err := fmt.Sscanf(take(8), "%08X", &field[i]); err != nil {
				t.Fatal(err)
			}
		}
		name := strings.TrimSuffix(take(field[11]), "\x00")
		align()
		body := take(field[6])
		align()
		if name == "TRAILER!!!" {
			return names, data
		}
		if isDir := field[1]&0o170000 == 0o040000; isDir {
			name += "/"
		} else {
			data[name] = body
		}
		names = append(names, name)
	}
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"README.md": "read me", "testdata/deep/a.txt": "a", "other/other.go": "package other",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	a := newArchive(&out)
	a.file("a/b/c", []byte("12345"))
	a.file("a/b/empty", nil)
	a.source("package/p", dir)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	names, data := entries(t, out.String())
	want := []string{
		"a/", "a/b/", "a/b/c", "a/b/empty",
		"package/", "package/p/", "package/p/README.md", "package/p/testdata/", "package/p/testdata/deep/", "package/p/testdata/deep/a.txt",
	}
	if !slices.Equal(names, want) {
		t.Errorf("the archive holds\n%q, want\n%q", names, want)
	}
	if wantData := map[string]string{
		"a/b/c": "12345", "a/b/empty": "", "package/p/README.md": "read me", "package/p/testdata/deep/a.txt": "a",
	}; !maps.Equal(data, wantData) {
		t.Errorf("the files are %q", data)
	}
}

func TestArchiveNamesWhatIsMissing(t *testing.T) {
	a := newArchive(io.Discard)
	a.copy("file", filepath.Join(t.TempDir(), "nowhere"))
	a.file("later", nil)
	if err := a.close(); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("error %v does not name the file", err)
	}
}
