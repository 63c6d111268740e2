package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"heddle.io/heddle/install/images"
	"heddle.io/heddle/install/manifests"
)

func (a *app) imagesCommand() *cobra.Command {
	var o images.Options
	c := &cobra.Command{
		Use:   "images",
		Short: "Pack the binaries into container images, without Docker",
		Long: `Pack the static binaries of controller and agent into container images: an
archive for each, which docker load, podman load and ctr images import take. The
same binaries give the same bytes.`,
		Example: `  heddlectl images --dir /tmp/images
  ctr -n k8s.io images import /tmp/images/heddled.tar`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if o.Binaries == "" {
				self, err := os.Executable()
				if err != nil {
					return err
				}
				o.Binaries = filepath.Dir(self)
			}
			written, err := images.Write(o)
			if err != nil {
				return err
			}
			return a.print(written, func(w io.Writer) {
				t := table{rows: [][]string{{"IMAGE", "ARCHITECTURE", "FILE", "DIGEST"}}}
				for _, i := range written {
					t.row(i.Image, i.Architecture, i.File, i.Digest)
				}
				t.write(w)
			})
		},
	}
	c.Flags().StringVar(&o.Out, "dir", "images", "directory of the archives")
	c.Flags().StringVar(&o.Binaries, "binaries", "", "directory of the binaries (default that of heddlectl)")
	c.Flags().StringVar(&o.Registry, "registry", manifests.Registry, "where the images' names begin")
	c.Flags().StringVar(&o.Version, "version", manifests.Tag(version().Version), "their tag")
	return c
}
