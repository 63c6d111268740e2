package enroll

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Limits of what may be announced: those of Kubernetes and of the kernel.
const (
	maxNamespace = 63
	maxName      = 253
	maxPath      = 4095 // PATH_MAX without the NUL
	maxInterface = 15   // IFNAMSIZ without the NUL
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
