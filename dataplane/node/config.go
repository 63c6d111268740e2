package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/dataplane/attach"
	"heddle.io/heddle/dataplane/feed"
	"heddle.io/heddle/dataplane/plan"
)

// Config says who the agent is and where it works.
type Config struct {
	Node     string       // name of this node, as the control plane knows it
	Zone     string       // overrides the zone that the control plane gives
	Server   string       // control plane: unix:///path or host:port
	TLS      *tls.Config  // for the control plane; nil: plaintext
	TLSErr   func() error // why newer certificates than those in use cannot be used; nil: nobody knows
	Cgroup   string       // hooks see the sockets of this cgroup and below; empty: all of the node
	Pins     string       // directory on a bpffs
	Admin    string       // unix:///path of the admin socket
	StateDir string

	// The container runtime's CNI configuration and plugins, and the plugin that
	// is put there; all empty: the runtime is left alone.
	CNIConfDir, CNIBinDir, CNIPlugin string

	TC       string // auto, tcx or clsact
	FastPath string // auto or off

	// SocketBypass: auto lets the pods that ask for it join the socket bypass,
	// off lets none. Connections that are in it stay, until they are closed.
	SocketBypass string

	// Entries that the kernel maps take; 0: the built-in size.
	MaxPods, MaxServices, MaxSplits, MaxClusters, MaxEndpoints, MaxMembers, MaxFast uint32

	// Credentials say who this node is, beside TLS; nil: nothing. Endpoints finds
	// a Server that is named endpoints:NAMESPACE/SERVICE:PORT.
	Credentials credentials.PerRPCCredentials
	Endpoints   resolver.Builder

	Version string
	Log     *slog.Logger // nil discards
}

// ErrConfig is wrapped by what is wrong with a Config.
var ErrConfig = errors.New("configuration")

// Validate reports everything that is wrong, at once.
func (c *Config) Validate() error {
	var bad []error
	reject := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }

	if err := c.feedOptions().Validate(); err != nil {
		bad = append(bad, err)
	}
	for _, dir := range []struct{ flag, path string }{
		{"--pins", c.Pins}, {"--state-dir", c.StateDir}, {"--cgroup", c.Cgroup},
	} {
		if dir.path == "" && dir.flag == "--cgroup" {
			continue
		}
		if !filepath.IsAbs(dir.path) {
			reject("%s=%q must be an absolute path", dir.flag, dir.path)
		}
	}
	if path, ok := strings.CutPrefix(c.Admin, "unix://"); !ok || !filepath.IsAbs(path) {
		reject("--admin=%q must be a unix socket, as in %s", c.Admin, DefaultAdmin)
	} else if len(path) > maxSocketPath {
		reject("--admin=%q: the path of a unix socket has at most %d bytes", c.Admin, maxSocketPath)
	}
	c.checkCNI(reject)
	switch c.TC {
	case "auto", "tcx", "clsact":
	default:
		reject("--tc=%q must be auto, tcx or clsact", c.TC)
	}
	switch c.FastPath {
	case attach.FastPathAuto, attach.FastPathOff:
	default:
		reject("--fast-path=%q must be auto or off", c.FastPath)
	}
	switch c.SocketBypass {
	case "auto", bypassOff:
	default:
		reject("--socket-bypass=%q must be auto or off", c.SocketBypass)
	}
	for name, n := range c.limits() {
		if n > maxLimit {
			reject("%s=%d is above the limit of %d", plan.Flag(name), n, maxLimit)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	slices.SortFunc(bad, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return fmt.Errorf("%w: %w", ErrConfig, errors.Join(bad...))
}

// checkCNI wants all directories or none.
func (c *Config) checkCNI(reject func(format string, args ...any)) {
	if c.CNIConfDir == "" && c.CNIBinDir == "" {
		return
	}
	for _, dir := range []struct{ flag, path string }{
		{"--cni-conf-dir", c.CNIConfDir}, {"--cni-bin-dir", c.CNIBinDir}, {"--cni-plugin", c.CNIPlugin},
	} {
		if !filepath.IsAbs(dir.path) {
			reject("%s=%q must be an absolute path: --cni-conf-dir and --cni-bin-dir belong together", dir.flag, dir.path)
		}
	}
}

// maxSocketPath is what sockaddr_un holds, without its NUL.
const maxSocketPath = 107

func (c *Config) feedOptions() feed.Options {
	return feed.Options{
		Server: c.Server, Node: c.Node, TLS: c.TLS, Log: c.Log,
		Credentials: c.Credentials, Endpoints: c.Endpoints, Confirm: true,
		Cache: filepath.Join(c.StateDir, cacheFile),
	}
}

func (c *Config) adminPath() string { return strings.TrimPrefix(c.Admin, "unix://") }

// limits are the sizes that were asked for, by map name.
func (c *Config) limits() map[string]uint32 {
	return map[string]uint32{
		bpf.MapPods: c.MaxPods, bpf.MapServices: c.MaxServices, bpf.MapSplits: c.MaxSplits,
		bpf.MapClusters: c.MaxClusters, bpf.MapEndpoints: c.MaxEndpoints, bpf.MapMembers: c.MaxMembers,
		bpf.MapFast: c.MaxFast,
	}
}

// mapLimits are the sizes of all maps that are not built-in ones.
func (c *Config) mapLimits() map[string]uint32 {
	out := c.limits()
	// Every pod has an entry in each of these.
	out[bpf.MapIfaces], out[bpf.MapIfStats] = c.MaxPods, c.MaxPods
	out[bpf.MapFastUse], out[bpf.MapShares] = c.MaxPods, c.MaxPods
	out[bpf.MapBypass] = c.MaxPods * uint32(bpf.MaxPodAddrs)
	maps.DeleteFunc(out, func(_ string, n uint32) bool { return n == 0 })
	return out
}
