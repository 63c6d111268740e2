package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"heddle.io/heddle/identity/mtls"
)

// tlsFiles are the --tls-* flags: all or none.
type tlsFiles struct {
	cert, key, ca string
}

// load returns the TLS configuration for the control plane at server, nil
// without files, and what tells why newer files cannot be used.
func (f tlsFiles) load(server string) (*tls.Config, func() error, error) {
	if f == (tlsFiles{}) {
		return nil, nil, nil
	}
	if f.cert == "" || f.key == "" || f.ca == "" {
		return nil, nil, fmt.Errorf("%w: --tls-cert, --tls-key and --tls-ca go together", errUsage)
	}
	if strings.HasPrefix(server, "unix:") {
		return nil, nil, fmt.Errorf("%w: the --tls-* flags do not apply to the unix socket %s", errUsage, server)
	}
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: --server=%q is neither unix:///path nor host:port", errUsage, server)
	}
	credentials, err := mtls.Load(mtls.Files{Cert: f.cert, Key: f.key, CA: f.ca})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return credentials.Client(host), credentials.Err, nil
}
