package enroll

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Limits of what may be announced: those of Kubernetes and of the kernel.
const (
	maxNamespace = 63
	maxName      = 253
	maxPath      = 4095 // PATH_MAX without the NUL
	maxInterface = 15   // IFNAMSIZ without the NUL
	maxUID       = 64
	maxAddresses = 4 // as many as the control plane may name
)

// checkPod looks at the words of a pod, not at the machine.
func checkPod(p Pod) error {
	if err := checkName("namespace", p.Namespace, maxNamespace); err != nil {
		return err
	}
	if err := checkName("name", p.Name, maxName); err != nil {
		return err
	}
	if p.Netns != "" {
		if err := checkPath(p.Netns); err != nil {
			return err
		}
	}
	if err := checkUID(p.UID); err != nil {
		return err
	}
	if err := checkAddresses(p.Addresses); err != nil {
		return err
	}
	return checkInterface(p.Interface)
}

func checkName(field, s string, limit int) error {
	if s == "" || len(s) > limit {
		return fmt.Errorf("%w: %s must have 1 to %d characters", ErrInvalid, field, limit)
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.') {
			return fmt.Errorf("%w: %s %q: lower-case letters, digits, '-' and '.' are allowed", ErrInvalid, field, s)
		}
	}
	return nil
}

// checkUID accepts what Kubernetes uses: a UUID, or for a static pod the hash
// of its file.
func checkUID(uid string) error {
	if len(uid) > maxUID {
		return fmt.Errorf("%w: uid has %d characters, the limit is %d", ErrInvalid, len(uid), maxUID)
	}
	for i := range len(uid) {
		c := uid[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return fmt.Errorf("%w: uid %q: letters, digits and '-' are allowed", ErrInvalid, uid)
		}
	}
	return nil
}

func checkAddresses(addresses []netip.Addr) error {
	if len(addresses) > maxAddresses {
		return fmt.Errorf("%w: %d addresses, the limit is %d", ErrInvalid, len(addresses), maxAddresses)
	}
	for _, a := range addresses {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
			return fmt.Errorf("%w: %q is no address of a pod", ErrInvalid, a)
		}
	}
	return nil
}

func checkPath(path string) error {
	switch {
	case len(path) > maxPath:
		return fmt.Errorf("%w: netns has %d bytes, the limit is %d", ErrInvalid, len(path), maxPath)
	case !filepath.IsAbs(path), filepath.Clean(path) != path, strings.ContainsRune(path, 0):
		return fmt.Errorf("%w: netns %q must be a clean absolute path, as /run/netns/x", ErrInvalid, path)
	}
	return nil
}

func checkInterface(name string) error {
	switch {
	case name == "" || len(name) > maxInterface:
		return fmt.Errorf("%w: interface must have 1 to %d characters", ErrInvalid, maxInterface)
	case name == "." || name == ".." || name == "lo" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r > '~' }):
		return fmt.Errorf("%w: %q is no name of a pod's interface", ErrInvalid, name)
	}
	return nil
}
