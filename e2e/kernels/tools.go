package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// tools are programs of this machine that tests run: the rules of a node with
// kube-proxy, and what connection tracking knows.
var tools = []string{"nft", "conntrack"}

// toolFiles are the files that programs consist of: where each goes in the
// guest, and where it is here. Libraries stay where their loader looks for them.
func toolFiles(ctx context.Context, names []string) (map[string]string, error) {
	files := map[string]string{}
	for _, name := range names {
		program, err := findTool(name)
		if err != nil {
			return nil, err
		}
		files[path.Join(binDir, name)] = program
		// A line is "name => path (address)", or "path (address)" of the loader.
		out, err := exec.CommandContext(ctx, "ldd", program).Output()
		if err != nil {
			return nil, fmt.Errorf("find the libraries of %s: ldd: %w", program, err)
		}
		for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
			text, _, _ := strings.Cut(lines.Text(), " (")
			if library, found, ok := strings.Cut(text, " => "); ok {
				if !filepath.IsAbs(found) {
					return nil, fmt.Errorf("%s needs %s, which is %s", program, strings.TrimSpace(library), found)
				}
				text = found
			}
			if text = strings.TrimSpace(text); filepath.IsAbs(text) {
				files[text] = text
			}
		}
	}
	return files, nil
}

// findTool also looks where only root's PATH leads.
func findTool(name string) (string, error) {
	for _, try := range []string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if found, err := exec.LookPath(try); err == nil {
			return filepath.Abs(found)
		}
	}
	return "", fmt.Errorf("the tests run %s, which is not installed: make test-kernels installs it", name)
}
