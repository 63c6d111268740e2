package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"heddle.io/heddle/e2e/bench/load"
	"heddle.io/heddle/install/sandbox"
)

// proxyPort is where a proxy listens on its node.
const proxyPort = 9000

// nodeAddress is the address of the node that the proxies run on.
const nodeAddress = "10.250.0.1"

// streamModules is where distributions put nginx's module for TCP.
var streamModules = []string{
	"/usr/lib/nginx/modules/ngx_stream_module.so",
	"/usr/lib64/nginx/modules/ngx_stream_module.so",
}

// proxyConfig is the configuration and the command line of a proxy: one thread,
// no logs, and otherwise as it comes. (nginx would cut off the server's last words
// when the client has shut its side; haproxy does not.)
func proxyConfig(name, file, target string) (text string, argv []string, err error) {
	switch name {
	case "haproxy":
		text = fmt.Sprintf(`global
  nbthread 1
  maxconn 4096
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen bench
  bind %s:%d
  server server %s
`, nodeAddress, proxyPort, target)
		return text, []string{"haproxy", "-db", "-q", "-f", file}, nil
	case "nginx":
		module := ""
		for _, path := range streamModules {
			if _, err := os.Stat(path); err == nil {
				module = path
			}
		}
		if module == "" {
			return "", nil, &unavailable{"nginx has no stream module here: install libnginx-mod-stream (.ci/setup bench)"}
		}
		text = fmt.Sprintf(`load_module %s;
daemon off;
master_process off;
pid %s.pid;
error_log stderr;
events { worker_connections 4096; }
stream {
  server {
    listen %s:%d backlog=1024;
    proxy_pass %s;
    proxy_half_close on;
  }
}
`, module, file, nodeAddress, proxyPort, target)
		return text, []string{"nginx", "-c", file, "-e", "stderr"}, nil
	}
	return "", nil, fmt.Errorf("no proxy is called %q", name)
}

// proxyVersion is what the program says it is.
func proxyVersion(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return "", &unavailable{name + " is not installed (.ci/setup bench)"}
		}
	}
	out, err := exec.Command(path, "-v").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w: %s", name, err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "nginx version: "), nil
}

// A running proxy.
type proxy struct {
	cmd  *sandbox.Cmd
	errs *bytes.Buffer
}

// startProxy starts the proxy of a variant and waits until it listens.
func (w *world) startProxy(ctx context.Context, o *Options, v *Variant) (*proxy, error) {
	to, err := w.serverAddress(v)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(w.Dir(), v.slug()+".conf")
	text, argv, err := proxyConfig(v.Proxy, file, to.String())
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write the proxy's configuration: %w", err)
	}
	cmd, err := w.NodeCommand(ctx, v.Setting.node(), argv...)
	if err != nil {
		return nil, err
	}
	p := &proxy{cmd, &bytes.Buffer{}}
	cmd.Stdout, cmd.Stderr = p.errs, p.errs
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", v.Proxy, err)
	}
	// In split mode it is where the server is.
	cores := o.cores()
	err = load.Pin(cmd.Process.Pid, cores[len(cores)-1])
	if err == nil {
		err = eventually(ctx, func() error { return listens(cmd.Process.Pid, proxyPort) })
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w: %s", v.Proxy, err, p.errs)
	}
	return p, nil
}

func (p *proxy) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	_ = p.cmd.Wait()                          // how it ends says nothing
}

// listens has no complaint when somebody in the process's network namespace
// listens on an IPv4 port.
func listens(pid, port int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return fmt.Errorf("look for the port: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		// "0: 0100FA0A:2328 00000000:0000 0A …": state 0A listens
		f := strings.Fields(line)
		if len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			return nil
		}
	}
	return fmt.Errorf("nobody listens on port %d", port)
}
