// Command runtime is an OCI runtime for nodes whose cgroup2 is without the
// controllers for CPU, memory and processes, because the machine has bound them
// to cgroup v1. runc fails there for want of cpu.weight, so this takes the
// limits out of the container's configuration, and then becomes runc.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runtime without limits:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	verb, bundle := parse(args)
	switch verb {
	case "update": // of limits, which nobody enforces
		return nil
	case "create", "run":
		if err := dropLimits(filepath.Join(bundle, "config.json")); err != nil {
			return fmt.Errorf("take the limits out of the container's configuration: %w", err)
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("%w: install runc", err)
	}
	return syscall.Exec(runc, append([]string{runc}, args...), os.Environ())
}

// parse finds the verb, if it is one that matters here, and the directory of
// the container's configuration.
func parse(args []string) (verb, bundle string) {
	bundle = "."
	for i, a := range args {
		switch {
		case verb == "" && (a == "create" || a == "run" || a == "update"):
			verb = a
		case (a == "--bundle" || a == "-b") && i+1 < len(args):
			bundle = args[i+1]
		case strings.HasPrefix(a, "--bundle="):
			bundle = strings.TrimPrefix(a, "--bundle=")
		}
	}
	return verb, bundle
}

// dropLimits keeps of linux.resources only which devices may be used: that is
// no controller but a BPF program.
func dropLimits(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(b, &spec); err != nil {
		return err
	}
	if linux, ok := spec["linux"].(map[string]any); ok {
		if resources, ok := linux["resources"].(map[string]any); ok {
			linux["resources"] = map[string]any{"devices": resources["devices"]}
		}
	}
	if b, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}
