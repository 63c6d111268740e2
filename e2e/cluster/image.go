package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
)

// Images that every node has.
const (
	// PauseImage holds the namespaces of pods.
	PauseImage = "heddle-e2e.test/pause:1"
	// PeerImage is for the pods of tests: /heddlectl, whose subcommands echo and
	// load are the two ends of traffic, the HTTP client /fetch, and busybox with
	// its usual names.
	PeerImage = "heddle-e2e.test/peer:1"
)

// A file is one of an image: a copy of a file, or a link.
type file struct{ path, from, link string }

// WriteImage writes an OCI archive with an image of a test's own: busybox's
// true, sleep and kill, and copies of static programs by their path in the image.
func WriteImage(out, tag string, programs map[string]string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: install Debian's busybox-static (.ci/setup cluster)", err)
	}
	files := []file{{path: "/bin/busybox", from: busybox}}
	for _, name := range []string{"kill", "sleep", "true"} {
		files = append(files, file{path: "/bin/" + name, link: "busybox"})
	}
	for _, to := range slices.Sorted(maps.Keys(programs)) {
		files = append(files, file{path: to, from: programs[to]})
	}
	return writeImage(out, tag, nil, files)
}

// writeImage writes an OCI archive with an image of one layer. The same files
// make the same bytes.
func writeImage(out, tag string, entrypoint []string, files []file) error {
	layer, err := packLayer(files)
	if err != nil {
		return fmt.Errorf("pack the image %s: %w", tag, err)
	}
	const kind = "application/vnd.oci.image."
	var a archive
	config := a.json(kind+"config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{
			"Entrypoint": entrypoint, "Env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/"}, "WorkingDir": "/",
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	manifest := a.json(kind+"manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
		"config": config, "layers": []any{a.blob(kind+"layer.v1.tar", layer)},
	})
	manifest.Annotations = map[string]string{"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag}
	a.index(kind+"index.v1+json", manifest)
	b, err := a.pack()
	if err != nil {
		return fmt.Errorf("pack the image %s: %w", tag, err)
	}
	return replace(out, b)
}

// replace writes a file that others may be reading.
func replace(path string, b []byte) error {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, b) {
		return nil
	}
	part := path + ".part"
	if err := os.WriteFile(part, b, 0o644); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// packLayer makes the directories that every container wants, then the files.
func packLayer(files []file) ([]byte, error) {
	var t tarball
	made := map[string]bool{".": true}
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if !made[dir] {
			made[dir] = true
			mkdir(path.Dir(dir))
			t.add(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil)
		}
	}
	for _, dir := range []string{"tmp", "etc", "proc", "sys", "dev", "var/run"} {
		mkdir(dir)
	}
	for _, f := range files {
		name := strings.TrimPrefix(f.path, "/")
		mkdir(path.Dir(name))
		if f.link != "" {
			t.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: f.link, Mode: 0o777}, nil)
			continue
		}
		b, err := os.ReadFile(f.from)
		if err != nil {
			return nil, err
		}
		t.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755}, b)
	}
	return t.pack()
}

// An archive is an image layout in a tar file: blobs under their digests, and
// an index that leads to them.
type archive struct{ tarball }

// A descriptor is how one blob names another.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (a *archive) blob(mediaType string, b []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: digest(b), Size: len(b)}
	a.add(&tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:"), Mode: 0o644}, b)
	return d
}

func (a *archive) json(mediaType string, v any) descriptor {
	return a.blob(mediaType, encode(v))
}

func (a *archive) index(mediaType string, manifest descriptor) {
	a.add(&tar.Header{Typeflag: tar.TypeReg, Name: "oci-layout", Mode: 0o644}, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	a.add(&tar.Header{Typeflag: tar.TypeReg, Name: "index.json", Mode: 0o644}, encode(map[string]any{
		"schemaVersion": 2, "mediaType": mediaType, "manifests": []any{manifest},
	}))
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings, numbers, maps and slices
	}
	return b
}

// A tarball collects entries, and keeps the first error for pack.
type tarball struct {
	buf bytes.Buffer
	w   *tar.Writer
	err error
}

func (t *tarball) add(h *tar.Header, b []byte) {
	if t.w == nil {
		t.w = tar.NewWriter(&t.buf)
	}
	h.Size = int64(len(b))
	if t.err == nil {
		t.err = t.w.WriteHeader(h)
	}
	if t.err == nil {
		_, t.err = t.w.Write(b)
	}
}

func (t *tarball) pack() ([]byte, error) {
	if t.err == nil {
		t.err = t.w.Close()
	}
	return t.buf.Bytes(), t.err
}
