package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// credentials are what the processes of a cluster know each other by, in files
// below a directory. Users are in a static table: nobody bootstraps, and
// nothing is rotated.
type credentials struct {
	dir   string
	ca    []byte // PEM
	admin string // token
}

// newCredentials writes pki/{ca,apiserver,sa}.* and pki/tokens.csv, and a
// kubeconfig for each user.
func newCredentials(dir string, nodes int) (*credentials, error) {
	c := &credentials{dir: dir}
	if err := os.MkdirAll(c.file(""), 0o700); err != nil {
		return nil, err
	}
	if err := c.keys(); err != nil {
		return nil, fmt.Errorf("make the keys of the cluster: %w", err)
	}
	if err := c.users(nodes); err != nil {
		return nil, fmt.Errorf("make the users of the cluster: %w", err)
	}
	return c, nil
}

// file is a file of the keys.
func (c *credentials) file(name string) string { return filepath.Join(c.dir, "pki", name) }

// kubeconfig is the file that a user's programs are given.
func (c *credentials) kubeconfig(user string) string { return filepath.Join(c.dir, user+".conf") }

func (c *credentials) keys() error {
	caKey, err := c.key("ca")
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		Subject:  pkix.Name{CommonName: "heddle-e2e"},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:     true, BasicConstraintsValid: true,
	}
	if c.ca, err = c.certificate("ca", ca, ca, caKey, caKey); err != nil {
		return err
	}
	serverKey, err := c.key("apiserver")
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost",
		},
		IPAddresses: []net.IP{net.ParseIP(ControlPlane), net.ParseIP(apiServerClusterIP), net.IPv4(127, 0, 0, 1)},
	}
	if _, err := c.certificate("apiserver", server, ca, serverKey, caKey); err != nil {
		return err
	}

	// What service account tokens are signed and verified with.
	account, err := c.key("sa")
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&account.PublicKey)
	if err != nil {
		return err
	}
	return os.WriteFile(c.file("sa.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600)
}

func (c *credentials) key(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	b, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(c.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b}), 0o600)
}

func (c *credentials) certificate(name string, cert, issuer *x509.Certificate, key, issuerKey *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	cert.SerialNumber = serial
	cert.NotBefore = time.Now().Add(-time.Hour)
	cert.NotAfter = time.Now().Add(30 * 24 * time.Hour)
	b, err := x509.CreateCertificate(rand.Reader, cert, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return nil, err
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b})
	return encoded, os.WriteFile(c.file(name+".crt"), encoded, 0o600)
}

func (c *credentials) users(nodes int) error {
	type user struct{ file, name, group string }
	users := []user{
		{"admin", "admin", "system:masters"},
		{"scheduler", "system:kube-scheduler", ""},
		{"proxy", "system:kube-proxy", ""},
	}
	for i := 1; i <= nodes; i++ {
		name := fmt.Sprintf("node%d", i)
		users = append(users, user{name, "system:node:" + name, "system:nodes"})
	}
	var table bytes.Buffer
	for _, u := range users {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		token := hex.EncodeToString(random)
		if u.file == "admin" {
			c.admin = token
		}
		fmt.Fprintf(&table, "%s,%s,%s,%q\n", token, u.name, u.name, u.group)
		if err := os.WriteFile(c.kubeconfig(u.file), kubeconfig(token, c.file("ca.crt")), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(c.file("tokens.csv"), table.Bytes(), 0o600)
}

func kubeconfig(token, ca string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: heddle-e2e
clusters: [{name: heddle-e2e, cluster: {server: "https://%s:6443", certificate-authority: %q}}]
users: [{name: heddle-e2e, user: {token: %s}}]
contexts: [{name: heddle-e2e, context: {cluster: heddle-e2e, user: heddle-e2e}}]
`, ControlPlane, ca, token)
}
