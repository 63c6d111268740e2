package mtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue writes a certificate for localhost into dir, and returns its files.
func (a *authority) issue(dir string, serial int64) Files {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "peer"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	f := Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
	writePEM(a.t, f.Cert, "CERTIFICATE", der)
	writePEM(a.t, f.Key, "PRIVATE KEY", pkcs8)
	writePEM(a.t, f.CA, "CERTIFICATE", a.cert.Raw)
	return f
}

// writePEM replaces a file the way that tools which renew certificates do.
func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, f Files) *Credentials {
	t.Helper()
	c, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lookAgain makes the next handshake look at the files.
func (c *Credentials) lookAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.checked = time.Time{}
}

// shake makes a handshake and sends a byte each way: in TLS 1.3 a client learns
// only then that it was refused. It returns both sides' errors.
func shake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		if err := s.Handshake(); err != nil {
			served <- err
			return
		}
		_, err = io.CopyN(s, s, 1)
		served <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(conn, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		state = c.ConnectionState()
		if _, clientErr = c.Write([]byte{1}); clientErr == nil {
			_, clientErr = io.ReadFull(c, make([]byte, 1))
		}
	}
	conn.Close()
	return state, <-served, clientErr
}

func TestBothSidesAreVerified(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	good := load(t, ours.issue(t.TempDir(), 2))
	stranger := load(t, theirs.issue(t.TempDir(), 3))

	for _, name := range []string{"localhost", "127.0.0.1"} {
		state, serverErr, clientErr := shake(t, good.Server(), good.Client(name))
		if serverErr != nil || clientErr != nil {
			t.Fatalf("client of %s: server: %v, client: %v", name, serverErr, clientErr)
		}
		if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519 {
			t.Errorf("version %#x, key exchange %s; want TLS 1.3 with X25519", state.Version, state.CurveID)
		}
	}

	noCertificate := good.Client("localhost")
	noCertificate.GetClientCertificate = nil
	old := good.Client("localhost")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for what, c := range map[string]struct{ server, client *tls.Config }{
		"a client of another authority": {good.Server(), stranger.Client("localhost")},
		"a server of another authority": {stranger.Server(), good.Client("localhost")},
		"a server of another name":      {good.Server(), good.Client("controller.heddle")},
		"a server of another address":   {good.Server(), good.Client("127.0.0.2")},
		"a server of no name":           {good.Server(), good.Client("")},
		"a client without certificate":  {good.Server(), noCertificate},
		"a client of TLS 1.2":           {good.Server(), old},
	} {
		if _, _, clientErr := shake(t, c.server, c.client); clientErr == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func TestRenewalIsPickedUp(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	server, client := load(t, ca.issue(dir, 2)), load(t, ca.issue(t.TempDir(), 3))
	serial := func() int64 {
		t.Helper()
		server.lookAgain()
		state, _, err := shake(t, server.Server(), client.Client("localhost"))
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Fatalf("serial number %d, want 2", got)
	}
	files := ca.issue(dir, 4)
	if got := serial(); got != 4 {
		t.Errorf("serial number %d after the renewal, want 4", got)
	}

	if err := os.WriteFile(files.Cert, []byte("cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 4 {
		t.Errorf("serial number %d with a broken file, want that of the last good one, 4", got)
	}
	if err := server.Err(); err == nil || !strings.Contains(err.Error(), files.Cert) {
		t.Errorf("Err is %v, it should name %s", err, files.Cert)
	}

	ca.issue(dir, 5)
	if got := serial(); got != 5 {
		t.Errorf("serial number %d after the repair, want 5", got)
	}
	if err := server.Err(); err != nil {
		t.Errorf("Err after the repair: %v", err)
	}
}

func TestNewAuthorityIsPickedUp(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	client, server := load(t, before.issue(dir, 2)), load(t, after.issue(t.TempDir(), 3))
	config := client.Client("localhost") // as gRPC has it: once, for all handshakes
	if _, _, err := shake(t, server.Server(), config); err == nil {
		t.Fatal("a server of an unknown authority was accepted")
	}
	after.issue(dir, 4)
	client.lookAgain()
	if _, _, err := shake(t, server.Server(), config); err != nil {
		t.Errorf("after the authority changed: %v", err)
	}
}

// TestClientWithoutCertificate: a client that knows the authority alone checks the
// server as any other, and follows its file.
func TestClientWithoutCertificate(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	files := before.issue(dir, 2)
	servers := make(map[*authority]*tls.Config)
	for _, a := range []*authority{before, after} {
		served := load(t, a.issue(t.TempDir(), 3)).current().certificate
		servers[a] = ServerOnly(func() (*tls.Certificate, error) { return &served, nil })
	}
	if _, err := LoadAuthority(""); err == nil {
		t.Error("no file was accepted")
	}
	client, err := LoadAuthority(files.CA)
	must(t, err)
	config := client.Client("localhost")
	for name, c := range map[string]struct {
		server, client *tls.Config
		good           bool
	}{
		"the server":                   {servers[before], config, true},
		"another authority's":          {servers[after], config, false},
		"another name":                 {servers[before], client.Client("other"), false},
		"one that wants a certificate": {load(t, before.issue(t.TempDir(), 4)).Server(), config, false},
	} {
		if _, _, err := shake(t, c.server, c.client); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, os.WriteFile(files.CA, []byte("cut off"), 0o600))
	client.lookAgain()
	if _, _, err := shake(t, servers[before], config); err != nil {
		t.Errorf("with a broken file the last good one has to stay: %v", err)
	}
	if client.Err() == nil {
		t.Error("Err does not tell of the broken file")
	}
	after.issue(dir, 5)
	client.lookAgain()
	if _, _, err := shake(t, servers[after], config); err != nil {
		t.Errorf("after the authority changed: %v", err)
	}
}

func TestUnusableFiles(t *testing.T) {
	ca := newAuthority(t)
	for what, c := range map[string]struct {
		spoil func(*Files)
		want  string
	}{
		"key readable by its group": {func(f *Files) { must(t, os.Chmod(f.Key, 0o640)) }, "chmod 0600"},
		"key readable by all":       {func(f *Files) { must(t, os.Chmod(f.Key, 0o604)) }, "chmod 0600"},
		"no key":                    {func(f *Files) { f.Key = "" }, "private key: no file given"},
		"key is missing":            {func(f *Files) { must(t, os.Remove(f.Key)) }, "no such file"},
		"key is a directory":        {func(f *Files) { f.Key = filepath.Dir(f.Key) }, "not a regular file"},
		"key of another":            {func(f *Files) { f.Key = ca.issue(t.TempDir(), 9).Key }, "belong together"},
		"authority holds no PEM":    {func(f *Files) { must(t, os.WriteFile(f.CA, []byte("x"), 0o600)) }, "no certificate in PEM form"},
		"certificate is huge":       {func(f *Files) { must(t, os.Truncate(f.Cert, maxFile+1)) }, "more than"},
	} {
		files := ca.issue(t.TempDir(), 2)
		c.spoil(&files)
		if _, err := Load(files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, it should contain %q", what, err, c.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestGRPC: the configurations work where they are used.
func TestGRPC(t *testing.T) {
	ca := newAuthority(t)
	server, client := load(t, ca.issue(t.TempDir(), 2)), load(t, ca.issue(t.TempDir(), 3))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(server.Server())))
	healthpb.RegisterHealthServer(g, health.NewServer())
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(client.Client("127.0.0.1"))))
	must(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
}
