package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heddle.io/heddle/dataplane/node"
)

func run(args ...string) (int, string) {
	c := root()
	var out bytes.Buffer
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(context.Background())
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	return exitCode(err), out.String()
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	// Up to here nothing of the machine is touched, except in the last case,
	// whose cgroup does not exist.
	here := []string{"agent", "--node=n1", "--state-dir=" + dir, "--admin=unix://" + filepath.Join(dir, "a.sock"),
		"--pins=" + filepath.Join(dir, "pins"), "--cgroup=" + filepath.Join(dir, "cgroup")}
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no command":        {nil, exitUsage, "heddled --help"},
		"unknown command":   {[]string{"proxy"}, exitUsage, "unexpected argument"},
		"help":              {[]string{"agent", "--help"}, 0, "--max-endpoints"},
		"version":           {[]string{"--version"}, 0, "heddled version"},
		"no admin socket":   {[]string{"admin", "--socket=" + filepath.Join(dir, "none")}, exitFailed, "--socket"},
		"unknown flag":      {[]string{"agent", "--nodes=x"}, exitUsage, "unknown flag"},
		"not a number":      {[]string{"agent", "--max-pods=many"}, exitUsage, "max-pods"},
		"argument":          {[]string{"agent", "n1"}, exitUsage, "unexpected argument"},
		"no node":           {[]string{"agent"}, exitUsage, "--node"},
		"log level":         {[]string{"agent", "--log-level=loud"}, exitUsage, "--log-level"},
		"log format":        {[]string{"agent", "--log-format=xml"}, exitUsage, "--log-format"},
		"half of TLS":       {append(here, "--server=10.0.0.1:1", "--tls-cert=x"), exitUsage, "go together"},
		"TLS on a socket":   {append(here, "--tls-cert=x", "--tls-key=x", "--tls-ca=x"), exitUsage, "do not apply"},
		"TLS files missing": {append(here, "--server=10.0.0.1:1", "--tls-cert=/none", "--tls-key=x", "--tls-ca=x"), exitUsage, "/none"},
		"plain TCP":         {append(here, "--server=10.0.0.1:1"), exitUsage, "no TLS"},
		"environment":       {here, exitEnvironment, "environment"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := run(test.args...)
			if code != test.code || !strings.Contains(out, test.want) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, test.code, test.want, out)
			}
		})
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("a failed start left %v behind", left)
	}
}

func TestExitCodeOfFailures(t *testing.T) {
	for code, err := range map[int]error{
		0: nil, exitFailed: errors.New("x"),
		exitUsage:       fmt.Errorf("x: %w", node.ErrConfig),
		exitEnvironment: fmt.Errorf("x: %w", node.ErrEnvironment),
	} {
		if got := exitCode(err); got != code {
			t.Errorf("%v: %d, want %d", err, got, code)
		}
	}
}
