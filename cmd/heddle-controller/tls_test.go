package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"heddle.io/heddle/api/xds"
	"heddle.io/heddle/identity/mtls"
)

// selfSigned writes a certificate that is its own authority.
func selfSigned(t *testing.T) mtls.Files {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := mtls.Files{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "cert")}
	for path, block := range map[string]*pem.Block{f.Cert: {Type: "CERTIFICATE", Bytes: der}, f.Key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// TestTLS: over TCP, a node with a certificate is served and others are not.
func TestTLS(t *testing.T) {
	ours, theirs := selfSigned(t), selfSigned(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	c := newController(t)
	c.start("--listen="+address, "--tls-cert="+ours.Cert, "--tls-key="+ours.Key, "--tls-ca="+ours.CA)

	ask := func(creds credentials.TransportCredentials, patience time.Duration, wait bool) error {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.WaitForReady(wait))
		if err != nil {
			return err
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "n1"}, TypeUrl: xds.NodeType}); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	client := func(f mtls.Files) credentials.TransportCredentials {
		loaded, err := mtls.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		return credentials.NewTLS(loaded.Client("127.0.0.1"))
	}
	if err := ask(client(ours), patience, true); err != nil {
		t.Fatalf("a node with a certificate: %v", err)
	}
	mixed := theirs
	mixed.CA = ours.CA // it trusts the controller, but the controller has no reason to trust it
	for name, creds := range map[string]credentials.TransportCredentials{
		"a node of another authority": client(mixed),
		"a node that speaks no TLS":   insecure.NewCredentials(),
	} {
		if err := ask(creds, patience, false); err == nil {
			t.Errorf("%s is served", name)
		}
	}
}
