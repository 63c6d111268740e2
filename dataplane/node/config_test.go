package node

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"heddle.io/heddle/dataplane/nettest"
)

func good() Config {
	return Config{Node: "n1", Server: DefaultServer, Pins: DefaultPins, Admin: DefaultAdmin, StateDir: DefaultStateDir, TC: DefaultTC, SocketBypass: DefaultSocketBypass, FastPath: DefaultFastPath}
}

func TestDefaultsAreValid(t *testing.T) {
	c := good()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateReportsEverything(t *testing.T) {
	c := Config{
		Server: "10.0.0.1:15010", Pins: "pins", StateDir: "", Cgroup: "cg", TC: "xdp", SocketBypass: "on", FastPath: "on", MaxServices: 1 << 30,
		Admin: "unix:///" + strings.Repeat("a", 120),
	}
	err := c.Validate()
	if !errors.Is(err, ErrConfig) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"--node", "no TLS", `--pins="pins"`, `--state-dir=""`, `--cgroup="cg"`, `--tc="xdp"`, `--fast-path="on"`, `--socket-bypass="on"`, "--max-services", "at most 107 bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported in:\n%v", want, err)
		}
	}
}

func TestMachinesThatDoNotFit(t *testing.T) {
	nettest.RequireBPF(t)
	r := newRig(t)
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no cgroup2":  {func(c *Config) { c.Cgroup = t.TempDir() }, "not on a cgroup2 file system"},
		"no cgroup":   {func(c *Config) { c.Cgroup = "/sys/fs/cgroup/none" }, "cgroup"},
		"no bpffs":    {func(c *Config) { c.Pins = filepath.Join(t.TempDir(), "pins") }, "not on a bpf file system"},
		"other agent": {func(c *Config) { c.Pins = r.still().c.Pins }, "held by"},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.config
			test.change(&c)
			_, err := New(context.Background(), c)
			if !errors.Is(err, ErrEnvironment) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
