package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"heddle.io/heddle/dataplane/endpoints"
	"heddle.io/heddle/dataplane/node"
	"heddle.io/heddle/identity/mtls"
)

// link is the way to the control plane: where it is, how it is recognised, and how
// this node says who it is.
type link struct {
	tls        tlsFiles
	serverCA   string
	serverName string
	tokenFile  string
}

func (l *link) register(flags *pflag.FlagSet) {
	flags.StringVar(&l.serverCA, "server-ca", "", "certificates that the control plane's is checked against, PEM file; for a node that has a token and no certificate")
	flags.StringVar(&l.serverName, "server-name", "", "name in the certificate of the control plane (default the host of --server)")
	flags.StringVar(&l.tokenFile, "token-file", "", "file with the token that says who this node is; read again for each connection")
	flags.StringVar(&l.tls.cert, "tls-cert", "", "certificate for the control plane, PEM file; instead of a token")
	flags.StringVar(&l.tls.key, "tls-key", "", "key of the certificate, PEM file")
	flags.StringVar(&l.tls.ca, "tls-ca", "", "certificates that the control plane's is checked against, PEM file")
}

// open fills in what the configuration says about the link.
func (l *link) open(c *node.Config) error {
	if l.serverCA == "" {
		if l.tokenFile != "" || l.serverName != "" {
			return fmt.Errorf("%w: --token-file and --server-name need --server-ca: a token is never sent to somebody unknown", errUsage)
		}
		var err error
		c.TLS, c.TLSErr, err = l.tls.load(c.Server)
		return err
	}
	name, err := l.name(c.Server)
	if err != nil {
		return err
	}
	authority, err := mtls.LoadAuthority(l.serverCA)
	if err != nil {
		return fmt.Errorf("%w: --server-ca: %w", errUsage, err)
	}
	c.TLS, c.TLSErr = authority.Client(name), authority.Err
	if l.tokenFile != "" {
		c.Credentials = token(l.tokenFile)
	}
	if strings.HasPrefix(c.Server, "endpoints:") {
		api, err := inCluster()
		if err != nil {
			return fmt.Errorf("%w: --server=%s: %w", errUsage, c.Server, err)
		}
		c.Endpoints = endpoints.Builder{API: api}
	}
	return nil
}

// name returns the name that the control plane's certificate must have.
func (l *link) name(server string) (string, error) {
	switch {
	case l.tls != (tlsFiles{}):
		return "", fmt.Errorf("%w: --server-ca and the --tls-* flags exclude each other", errUsage)
	case strings.HasPrefix(server, "unix:"):
		return "", fmt.Errorf("%w: --server-ca does not apply to the unix socket %s", errUsage, server)
	case l.serverName != "":
		return l.serverName, nil
	}
	if service, ok := strings.CutPrefix(server, "endpoints:"); ok {
		service, _, _ = strings.Cut(service, ":")
		namespace, name, _ := strings.Cut(service, "/")
		return name + "." + namespace + ".svc", nil
	}
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return "", fmt.Errorf("%w: --server=%q is neither unix:///path, host:port nor endpoints:NAMESPACE/SERVICE:PORT", errUsage, server)
	}
	return host, nil
}

// token is a file with a token, which others replace. It is read for each
// connection: those are rare, and so the newest is always used.
type token string

// maxToken bounds the file.
const maxToken = 64 << 10

func (t token) read() (string, error) {
	f, err := os.Open(string(t))
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	trimmed := strings.TrimSpace(string(text))
	if trimmed == "" || strings.ContainsAny(trimmed, " \r\n\t") {
		return "", fmt.Errorf("token: %s holds none; is the projected volume mounted?", string(t))
	}
	return trimmed, nil
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	text, err := t.read()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + text}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (token) RequireTransportSecurity() bool { return true }

// Where Kubernetes puts what a pod needs to reach the API server.
const (
	accountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	accountCA    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

// inCluster is the API server as pods see it.
func inCluster() (endpoints.API, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return endpoints.API{}, errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT say where the API server is, and are not set")
	}
	authority, err := mtls.LoadAuthority(accountCA)
	if err != nil {
		return endpoints.API{}, err
	}
	return endpoints.API{
		URL:   "https://" + net.JoinHostPort(host, port),
		Token: token(accountToken).read,
		Client: &http.Client{Transport: &http.Transport{
			TLSClientConfig: authority.Client(host), ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: time.Minute, MaxIdleConns: 1,
		}},
	}, nil
}
