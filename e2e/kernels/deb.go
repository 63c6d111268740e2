package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Modules are what the tests need and Debian does not build in. They are loaded
// in this order: a module comes after those whose symbols it uses. The package
// has no list of that, depmod makes it where the package is installed.
var (
	modules = []string{"veth", "sch_ingress", "cls_bpf", "sch_tbf"}
	// Connection tracking, what reads it, and the rules of a node with kube-proxy
	// and policies: a state, an address translation, a refusal.
	conntrackModules = []string{
		"nf_defrag_ipv4", "nf_defrag_ipv6", "libcrc32c", "nf_conntrack", "nfnetlink", "nf_conntrack_netlink",
		"nf_tables", "nft_objref", "nft_ct", "nf_nat", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir",
		"nf_reject_ipv4", "nf_reject_ipv6", "nft_reject", "nft_reject_inet",
	}
	// Newer kernels have these as part of another module.
	absorbed = []string{"nft_objref"}
)

// kernel is what a boot needs of a kernel package. The package is not
// installed.
type kernel struct {
	name    string // of the package's file
	release string // uname -r
	image   []byte
	modules map[string][]byte // as packaged, perhaps compressed
}

// has returns those of names that the kernel has as modules.
func (k *kernel) has(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return k.modules[name] == nil })
}

// readKernel unpacks a package in memory. dpkg-deb knows its compression.
func readKernel(ctx context.Context, deb string) (*kernel, error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", deb, err)
	}
	k, err := readKernelTar(out)
	if err != nil {
		_ = cmd.Process.Kill() // it may still want to write
	}
	if ended := cmd.Wait(); err == nil && ended != nil {
		err = fmt.Errorf("%w: %s", ended, bytes.TrimSpace(stderr.Bytes()))
	}
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w; delete it to have it downloaded again", deb, err)
	}
	k.name = filepath.Base(deb)
	return k, nil
}

func readKernelTar(r io.Reader) (*kernel, error) {
	wanted := slices.Concat(modules, conntrackModules)
	k := &kernel{modules: map[string][]byte{}}
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		base := path.Base(h.Name)
		if release, ok := strings.CutPrefix(base, "vmlinuz-"); ok {
			k.release = release
			if k.image, err = io.ReadAll(files); err != nil {
				return nil, err
			}
		}
		// veth.ko in 6.1, veth.ko.xz in 6.12.
		name, _, isModule := strings.Cut(base, ".ko")
		if isModule && slices.Contains(wanted, name) {
			if k.modules[name], err = io.ReadAll(files); err != nil {
				return nil, err
			}
		}
	}
	if k.image == nil {
		return nil, errors.New("there is no /boot/vmlinuz-* in it")
	}
	for _, name := range wanted {
		if k.modules[name] == nil && !slices.Contains(absorbed, name) {
			return nil, fmt.Errorf("the module %s is not in it", name)
		}
	}
	return k, nil
}
