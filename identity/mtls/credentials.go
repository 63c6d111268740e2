package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Files names PEM files: the certificate chain of this process, its private key,
// and the certificates of the authority that every peer must be signed by.
type Files struct {
	Cert, Key, CA string
}

// Bounds: no file of certificates comes near this.
const maxFile = 1 << 20

// checkEvery is how often at most the files are looked at. Handshakes are rarer
// than that on a quiet node, so a renewed certificate is used at once there.
const checkEvery = time.Second

// Credentials are the contents of Files, read again when the files change. A
// change that cannot be used is reported by Err, and the last good contents stay
// in force. All methods may be called from any goroutine.
type Credentials struct {
	files Files

	mu struct {
		sync.Mutex
		loaded  loaded
		stamps  [3]stamp  // of the files that loaded or err come from
		checked time.Time // when the stamps were compared last
		err     error     // why the newest files cannot be used; nil: they are
	}
}

// loaded is never changed once made.
type loaded struct {
	certificate tls.Certificate
	authorities *x509.CertPool
}

// A stamp changes when a file is replaced or written to.
type stamp struct {
	info fs.FileInfo
}

func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return os.SameFile(s.info, o.info) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

// LoadAuthority reads the certificates of an authority alone: for a client that
// has another way than a certificate to say who it is.
func LoadAuthority(path string) (*Credentials, error) {
	if path == "" {
		return nil, errors.New("authority: no file given")
	}
	return Load(Files{CA: path})
}

// Load reads the files. The error says which one cannot be used and why.
func Load(files Files) (*Credentials, error) {
	c := &Credentials{files: files}
	stamps := files.stamps()
	now, err := files.read()
	if err != nil {
		return nil, err
	}
	c.mu.loaded, c.mu.stamps, c.mu.checked = now, stamps, time.Now()
	return c, nil
}

// Err tells why the newest contents of the files are not used; nil when they
// are.
func (c *Credentials) Err() error {
	c.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err
}

// current returns the newest good contents.
func (c *Credentials) current() loaded {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.mu.checked) < checkEvery {
		return c.mu.loaded
	}
	c.mu.checked = now
	// The stamps are taken before the contents: what changes in between is
	// read once more next time, and not missed.
	stamps := c.files.stamps()
	changed := false
	for i, s := range stamps {
		changed = changed || !s.same(c.mu.stamps[i])
	}
	// A failed attempt is repeated: certificate and key are two files, and a
	// look between the two writes finds a pair that does not fit.
	if !changed && c.mu.err == nil {
		return c.mu.loaded
	}
	c.mu.stamps = stamps
	next, err := c.files.read()
	c.mu.err = err
	if err == nil {
		c.mu.loaded = next
	}
	return c.mu.loaded
}

func (f Files) stamps() [3]stamp {
	var out [3]stamp
	for i, path := range []string{f.Cert, f.Key, f.CA} {
		if info, err := os.Stat(path); err == nil {
			out[i] = stamp{info}
		}
	}
	return out
}

func (f Files) read() (loaded, error) {
	if f.Cert == "" && f.Key == "" {
		pool, err := readAuthorities(f.CA)
		return loaded{authorities: pool}, err
	}
	cert, _, err := readFile(f.Cert)
	if err != nil {
		return loaded{}, fmt.Errorf("certificate: %w", err)
	}
	key, mode, err := readFile(f.Key)
	if err != nil {
		return loaded{}, fmt.Errorf("private key: %w", err)
	}
	if mode.Perm()&0o077 != 0 {
		return loaded{}, fmt.Errorf("private key %s has mode %04o, others than its owner can read it; change it with chmod 0600 (a Kubernetes Secret volume: defaultMode: 0400)", f.Key, mode.Perm())
	}
	pool, err := readAuthorities(f.CA)
	if err != nil {
		return loaded{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return loaded{}, fmt.Errorf("certificate %s with private key %s: %w; both must be PEM and belong together", f.Cert, f.Key, err)
	}
	return loaded{certificate: pair, authorities: pool}, nil
}

func readAuthorities(path string) (*x509.CertPool, error) {
	ca, _, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("authority %s holds no certificate in PEM form", path)
	}
	return pool, nil
}

// readFile reads a regular file. The mode is that of the open file, so it cannot
// change between check and use.
func readFile(path string) ([]byte, fs.FileMode, error) {
	if path == "" {
		return nil, 0, errors.New("no file given")
	}
	// Opening a FIFO would wait for a writer.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(data) > maxFile {
		return nil, 0, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return data, info.Mode(), nil
}
