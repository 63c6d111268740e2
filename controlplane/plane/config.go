package plane

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/rest"
)

// Config says what to read and where to serve it.
type Config struct {
	Source   string // dir:PATH
	Listen   string // for nodes: unix:///path or host:port
	Admin    string // unix:///path of the admin socket
	StateDir string

	// TLS is for Listen with a TCP address; nil: plaintext. TLSErr tells why
	// newer certificates than those in use cannot be used; nil: nobody knows.
	TLS    *tls.Config
	TLSErr func() error

	// Cluster is where the controller itself runs, with Source kubernetes: nodes
	// are then recognised by their tokens, and Listen needs no TLS of its own.
	Cluster *Cluster

	Version string
	Log     *slog.Logger // nil discards
}

// Cluster is a Kubernetes cluster, and what of it is Heddle's own.
type Cluster struct {
	API       *rest.Config
	Namespace string // of the controller and the agents
	Pod       string // of this controller
}

// Kubernetes is the Source that reads the objects of Cluster.
const Kubernetes = "kubernetes"

// ErrConfig is wrapped by what is wrong with a Config, ErrEnvironment by what
// does not fit on this machine.
var (
	ErrConfig      = errors.New("configuration")
	ErrEnvironment = errors.New("environment")
)

// maxSocketPath is what sockaddr_un holds, without its NUL.
const maxSocketPath = 107

// Validate reports everything that is wrong, at once.
func (c *Config) Validate() error {
	var bad []error
	reject := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }

	if err := c.checkSource(); err != nil {
		bad = append(bad, err)
	}
	if !filepath.IsAbs(c.StateDir) {
		reject("--state-dir=%q must be an absolute path", c.StateDir)
	}
	if err := checkSocket("--admin", c.Admin); err != nil {
		bad = append(bad, err)
	}
	switch {
	case strings.HasPrefix(c.Listen, "unix:"):
		if err := checkSocket("--listen", c.Listen); err != nil {
			bad = append(bad, err)
		}
		if c.Listen == c.Admin {
			reject("--listen and --admin are the same socket, %s; they speak different protocols", c.Listen)
		}
		if c.TLS != nil {
			reject("the --tls-* flags do not apply to the unix socket %s", c.Listen)
		}
	default:
		if err := c.checkAddress(); err != nil {
			bad = append(bad, err)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrConfig, errors.Join(bad...))
}

func (c *Config) checkSource() error {
	if c.Source == Kubernetes {
		switch {
		case c.Cluster == nil:
			return errors.New("--source=kubernetes needs a cluster")
		case c.Cluster.Namespace == "" || c.Cluster.Pod == "":
			return errors.New("--source=kubernetes needs --namespace and --pod-name")
		case c.TLS != nil:
			return errors.New("with --source=kubernetes the controller issues its own certificate: the --tls-* flags are not used")
		}
		return nil
	}
	if path, ok := strings.CutPrefix(c.Source, "dir:"); !ok || path == "" {
		return fmt.Errorf("--source=%q must be kubernetes, or dir:PATH, a directory of YAML and JSON files", c.Source)
	}
	return nil
}

func checkSocket(flag, value string) error {
	path, ok := strings.CutPrefix(value, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return fmt.Errorf("%s=%q must be a unix socket with an absolute path, as in %s", flag, value, DefaultAdmin)
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("%s=%q: the path of a unix socket has at most %d bytes", flag, value, maxSocketPath)
	}
	return nil
}

// checkAddress refuses plaintext beyond this machine: who can reach the address
// would learn every pod and Service, and could pretend to be any node.
func (c *Config) checkAddress() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen=%q is neither unix:///path nor host:port", c.Listen)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("--listen=%q: %q is not a port number", c.Listen, port)
	} else if n == 0 {
		return fmt.Errorf("--listen=%q: nodes have to know the port, give one", c.Listen)
	}
	if c.TLS == nil && c.Cluster == nil && !loopback(host) {
		return fmt.Errorf("--listen=%q can be reached from other machines and there is no TLS: give --tls-cert, --tls-key and --tls-ca, or listen on 127.0.0.1, [::1] or a unix socket", c.Listen)
	}
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
