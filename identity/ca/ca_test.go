package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

func pems(t *testing.T, a *Authority) (cert, key []byte) {
	t.Helper()
	key, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	return a.CertificatePEM(), key
}

func made(t *testing.T, now time.Time) *Authority {
	t.Helper()
	a, err := New("test", now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestServe(t *testing.T) {
	now := time.Now()
	a := made(t, now)
	back, err := Parse(a.CertificatePEM(), second(pems(t, a)), now)
	if err != nil || !back.Same(a) {
		t.Fatalf("read back: %v", err)
	}
	leaf, err := back.Serve([]string{"controller.heddle.svc"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CertificatePEM())
	check := func(name string, at time.Time) error {
		_, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at})
		return err
	}
	if err := check("controller.heddle.svc", now); err != nil {
		t.Error(err)
	}
	if check("other.heddle.svc", now) == nil {
		t.Error("another name was accepted")
	}
	if check("controller.heddle.svc", now.Add(2*time.Hour)) == nil {
		t.Error("an expired certificate was accepted")
	}
}

func second(_, b []byte) []byte { return b }

func TestParseRefuses(t *testing.T) {
	now := time.Now()
	a, b := made(t, now), made(t, now)
	cert, key := pems(t, a)
	_, other := pems(t, b)
	leaf, err := a.Serve([]string{"x"}, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	for name, c := range map[string]struct {
		cert, key []byte
		now       time.Time
		want      string
	}{
		"nothing":           {nil, nil, now, "missing"},
		"rubbish":           {[]byte("x"), []byte("y"), now, "certificate with key"},
		"another's key":     {cert, other, now, "certificate with key"},
		"two certificates":  {append(cert[:len(cert):len(cert)], b.CertificatePEM()...), key, now, "must be one"},
		"a server's":        {encode("CERTIFICATE", leaf.Certificate[0]), encode("PRIVATE KEY", der), now, "not that of an authority"},
		"expired":           {cert, key, now.Add(2 * Lifetime), "valid from"},
		"of another curve":  p384(t, now),
		"not yet in effect": {cert, key, now.Add(-time.Hour), "valid from"},
	} {
		if _, err := Parse(c.cert, c.key, c.now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, c.want)
		}
	}
}

func p384(t *testing.T, now time.Time) (out struct {
	cert, key []byte
	now       time.Time
	want      string
}) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: now, NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out.cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	out.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	out.now, out.want = now, "must be ECDSA with P-256"
	return out
}
