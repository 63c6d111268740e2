package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A tool comes with its libraries and their loader.
func TestToolFiles(t *testing.T) {
	files, err := toolFiles(t.Context(), []string{"true"})
	if err != nil {
		t.Fatal(err)
	}
	var libc, loader bool
	for to, from := range files {
		if info, err := os.Stat(from); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s would come from %s: %v", to, from, err)
		}
		base := filepath.Base(to)
		libc = libc || strings.HasPrefix(base, "libc.so")
		loader = loader || strings.HasPrefix(base, "ld-linux")
	}
	if files["/bin/true"] == "" || !libc || !loader {
		t.Errorf("the files are %v", files)
	}
	if _, err := toolFiles(t.Context(), []string{"no-such-program"}); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("error %v does not name the program", err)
	}
}
