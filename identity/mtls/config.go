package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// Server returns the configuration of a server that asks every client for a
// certificate of the authority. It follows the files: each handshake uses what
// they hold at that moment.
func (c *Credentials) Server() *tls.Config {
	base := policy()
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := c.current()
		config := policy()
		config.Certificates = []tls.Certificate{now.certificate}
		config.ClientCAs = now.authorities
		config.ClientAuth = tls.RequireAndVerifyClientCert
		return config, nil
	}
	return base
}

// ServerOnly returns the configuration of a server that shows the certificate
// that get returns at the moment, and asks no client for one: its clients say who
// they are inside the connection.
func ServerOnly(get func() (*tls.Certificate, error)) *tls.Config {
	config := policy()
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return get() }
	return config
}

// Client returns the configuration of a client of the server with this name: a
// DNS name or an IP address that must stand in the server's certificate. It
// follows the files, as Server does.
func (c *Credentials) Client(serverName string) *tls.Config {
	config := policy()
	config.ServerName = serverName
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		certificate := c.current().certificate
		return &certificate, nil
	}
	// RootCAs cannot change after the configuration was handed out, so the
	// standard check is replaced by the same check with the roots of the moment.
	// The name is taken from the argument: ConnectionState has none for
	// addresses, and an empty name would not be checked at all.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return verifyServer(state, serverName, c.current().authorities)
	}
	return config
}

func verifyServer(state tls.ConnectionState, name string, roots *x509.CertPool) error {
	if name == "" {
		return errors.New("the server cannot be verified without a name to look for in its certificate")
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server sent no certificate")
	}
	options := x509.VerifyOptions{
		Roots:         roots,
		DNSName:       name,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, certificate := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(certificate)
	}
	if _, err := state.PeerCertificates[0].Verify(options); err != nil {
		return fmt.Errorf("verifying the server %s: %w", name, err)
	}
	return nil
}

// policy is what every connection has in common.
func policy() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// X25519 first. Go ignores the order and prefers X25519 among these;
		// P-256 is for peers that are restricted to NIST curves.
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
		// Resumption would skip looking at the certificate again, and a
		// revoked or renewed one would live on in tickets.
		SessionTicketsDisabled: true,
		NextProtos:             []string{"h2"},
	}
}
