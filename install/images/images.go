package images

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A Recipe is an image and what is in it. The first binary is the one that a
// container runs.
type Recipe struct {
	Name     string
	Title    string
	Binaries []string
	User     string // uid:gid
}

// Recipes are Heddle's images.
var Recipes = []Recipe{
	{Name: "heddle-controller", Title: "Heddle's control plane", Binaries: []string{"heddle-controller"}, User: "65532:65532"},
	{Name: "heddled", Title: "Heddle on a node", Binaries: []string{"heddled", "heddle-cni"}, User: "0:0"},
}

// Options say what to pack and where to write it.
type Options struct {
	Binaries string // directory
	Registry string // where the images' names begin
	Version  string // their tag
	Out      string // directory of the archives; made when missing
}

// An Archive is an image that was written.
type Archive struct {
	Image        string `json:"image"`
	File         string `json:"file"`
	Digest       string `json:"digest"` // of the image's manifest
	Architecture string `json:"architecture"`
}

// Write writes an archive NAME.tar for each image. An archive is there as a
// whole or not at all.
func Write(o Options) ([]Archive, error) {
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, fmt.Errorf("directory of the archives: %w", err)
	}
	var all []Archive
	for _, r := range Recipes {
		a, err := r.write(o)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", r.Name, err)
		}
		all = append(all, a)
	}
	return all, nil
}

func (r Recipe) write(o Options) (Archive, error) {
	tag, err := name.NewTag(o.Registry+"/"+r.Name+":"+o.Version, name.StrictValidation)
	if err != nil {
		return Archive{}, fmt.Errorf("%w: choose another version or registry", err)
	}
	image, arch, err := r.image(o.Binaries, o.Version)
	if err != nil {
		return Archive{}, err
	}
	digest, err := image.Digest()
	if err != nil {
		return Archive{}, err
	}
	file := filepath.Join(o.Out, r.Name+".tar")
	err = atomically(file, func(w io.Writer) error { return tarball.Write(tag, image, w) })
	return Archive{Image: tag.String(), File: file, Digest: digest.String(), Architecture: arch}, err
}

// image is the image of a recipe and its architecture.
func (r Recipe) image(dir, version string) (v1.Image, string, error) {
	var found []string
	for _, b := range r.Binaries {
		arch, err := inspect(filepath.Join(dir, b))
		if err != nil {
			return nil, "", err
		}
		found = append(found, arch)
	}
	arch := found[0]
	if slices.ContainsFunc(found, func(a string) bool { return a != arch }) {
		return nil, "", fmt.Errorf("%v in %s are for different architectures %v: build them for one", r.Binaries, dir, found)
	}
	root, err := layer(dir, r.Binaries)
	if err != nil {
		return nil, "", err
	}
	image, err := mutate.AppendLayers(empty.Image, root)
	if err != nil {
		return nil, "", err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, "", err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Created = v1.Time{Time: epoch}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + r.Binaries[0]},
		User:       r.User,
		Labels: map[string]string{
			"org.opencontainers.image.title":    r.Title,
			"org.opencontainers.image.version":  version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	image, err = mutate.ConfigFile(image, config)
	return image, arch, err
}

// atomically writes a file of that name, or leaves what was there.
func atomically(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
