package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// epoch is the time of everything in an image: a clock would make every build
// another image.
var epoch = time.Unix(0, 0).UTC()

// architectures are the names that images have for what ELF files say.
var architectures = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

// inspect returns the architecture of a binary, which has to be one that needs
// nothing but the kernel: there is nothing else in the image.
func inspect(path string) (string, error) {
	f, err := elf.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s is missing: build it (make build), or name the directory of the binaries", path)
	case err != nil:
		return "", fmt.Errorf("%s is no Linux program: %w: build it (make build)", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s needs a dynamic linker, which the image does not have: build it with CGO_ENABLED=0", path)
		}
	}
	arch, ok := architectures[f.Machine]
	if !ok {
		return "", fmt.Errorf("%s is for %s: build it for amd64 or arm64", path, f.Machine)
	}
	return arch, nil
}

// layer is the image's root: the binaries and a place for temporary files.
func layer(dir string, binaries []string) (v1.Layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	header := tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777, ModTime: epoch, Format: tar.FormatPAX}
	if err := w.WriteHeader(&header); err != nil {
		return nil, err
	}
	for _, name := range binaries {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		header := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(text)), ModTime: epoch, Format: tar.FormatPAX}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }
	return tarball.LayerFromOpener(opener, tarball.WithCompressionLevel(gzip.BestSpeed))
}
