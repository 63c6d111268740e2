package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// binaries builds a static program under every name that the images want.
func binaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range Recipes {
		for _, b := range r.Binaries {
			c := exec.Command("go", "build", "-o", filepath.Join(dir, b), source)
			c.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	return dir
}

func TestArchives(t *testing.T) {
	o := Options{Binaries: binaries(t), Registry: "heddle.io", Version: "v1.2.3", Out: filepath.Join(t.TempDir(), "new")}
	written, err := Write(o)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range Recipes {
		image, err := tarball.ImageFromPath(written[i].File, nil)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := config.Config.Entrypoint; !slices.Equal(got, []string{"/" + r.Binaries[0]}) || config.Config.User != r.User || config.OS != "linux" {
			t.Errorf("%s: entrypoint %v, user %s, OS %s", r.Name, got, config.Config.User, config.OS)
		}
		layers, err := image.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatalf("%d layers, %v", len(layers), err)
		}
		root, err := layers[0].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		if got := files(t, root); !slices.Equal(got, append([]string{"tmp/"}, r.Binaries...)) {
			t.Errorf("%s holds %v", r.Name, got)
		}
	}
	if want := "heddle.io/heddled:v1.2.3"; written[1].Image != want {
		t.Errorf("image %s, want %s", written[1].Image, want)
	}
}

func files(t *testing.T, layer io.ReadCloser) []string {
	t.Helper()
	defer layer.Close()
	var names []string
	for r := tar.NewReader(layer); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

// TestReproducible: neither the time nor the directory is in the bytes.
func TestReproducible(t *testing.T) {
	dir := binaries(t)
	var before []Archive
	for range 2 {
		written, err := Write(Options{Binaries: dir, Registry: "heddle.io", Version: "v1", Out: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		for i := range before {
			a, errA := os.ReadFile(before[i].File)
			b, errB := os.ReadFile(written[i].File)
			if err := errors.Join(errA, errB); err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s differs (%v)", written[i].Image, err)
			}
		}
		before = written
	}
}

func TestRefusals(t *testing.T) {
	dir := binaries(t)
	for name, c := range map[string]struct {
		binary, version, want string
	}{
		"missing": {"", "v1", "make build"},
		"script":  {"#!/bin/sh\n", "v1", "no Linux program"},
		"tag":     {"keep", "v1+dirty", "another version"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "heddled")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.WriteFile(path, text, 0o755) }()
			switch c.binary {
			case "":
				err = os.Remove(path)
			case "keep":
			default:
				err = os.WriteFile(path, []byte(c.binary), 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = Write(Options{Binaries: dir, Registry: "heddle.io", Version: c.version, Out: t.TempDir()})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}
