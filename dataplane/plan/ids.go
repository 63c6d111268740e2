package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"heddle.io/heddle/dataplane/state"
)

// Kernel ids are hashes of names, so nothing has to be remembered over a
// restart and two agents of one node give the same thing the same id. Two
// names with one id are found while planning, and the later one is left out.
//
// Everything that holds endpoint addresses exists once per address family: a
// client that dialled IPv4 must not be given, nor be held by affinity to, an
// IPv6 endpoint. So the names of services and clusters end in #4 or #6.

// hasher maps a name of some kind to an id. Tests replace it to provoke
// collisions.
type hasher func(kind, name string) uint64

// id is the first 8 bytes of SHA-256 of "kind\0name". It is never 0, which
// means "everybody", "no split" and "missing backend" in the tables.
func id(kind, name string) uint64 {
	var buf [128]byte
	text := append(buf[:0], kind...)
	text = append(text, 0)
	text = append(text, name...)
	sum := sha256.Sum256(text)
	if n := binary.LittleEndian.Uint64(sum[:8]); n != 0 {
		return n
	}
	return 1
}

// ScopeID is the id of a client namespace in hd_pods and in the keys of
// hd_services.
func ScopeID(namespace string) uint64 { return id("scope", namespace) }

// ServiceID is the id of one port of a service in one address family. It is
// also the key of its split.
func ServiceID(s *state.Service, p *state.Port, v6 bool) uint64 {
	return id("service", serviceName(s, p, v6))
}

// ClusterID is the key in hd_clusters of a cluster's endpoints of one address
// family.
func ClusterID(resource string, v6 bool) uint64 {
	return id("cluster", resource+suffix(v6))
}

// serviceName is "namespace/name:port/protocol[@scope]#family".
func serviceName(s *state.Service, p *state.Port, v6 bool) string {
	text := make([]byte, 0, 96)
	text = append(text, s.Namespace...)
	text = append(text, '/')
	text = append(text, s.Name...)
	text = append(text, ':')
	text = strconv.AppendUint(text, uint64(p.Port), 10)
	text = append(text, '/')
	text = append(text, p.Protocol.String()...)
	if s.Scope != "" {
		text = append(text, '@')
		text = append(text, s.Scope...)
	}
	return string(append(text, suffix(v6)...))
}

func suffix(v6 bool) string {
	if v6 {
		return "#6"
	}
	return "#4"
}
