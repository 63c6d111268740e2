// Package images packs Heddle's static binaries into container images, without
// Docker: archives that docker, podman and ctr load. The same binaries give the
// same bytes.
package images
