package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// build makes the binaries that run in the guest, in dir.
func build(ctx context.Context, dir string, programs []program) error {
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("run this from the root of the repository: %w", err)
	}
	tests := []string{"test", "-c", "-ldflags=-s -w", "-o", dir + "/"}
	for _, p := range programs {
		tests = append(tests, "./"+p.Package)
	}
	for _, args := range [][]string{
		tests,
		{"build", "-ldflags=-s -w", "-o", filepath.Join(dir, "heddled"), "./cmd/heddled"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", args[0], err, out)
		}
	}
	return nil
}
