package feed

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Bounds of what a node accepts. They are wider than what Kubernetes and
// Gateway API allow, and narrow enough that a broken control plane cannot
// exhaust a node's memory or its kernel tables with one resource.
const (
	maxResource  = 4 << 20 // bytes of one encoded resource
	maxResources = 1 << 18 // resources of one type
	maxVersion   = 256     // bytes of a resource version
	maxKey       = 1024    // bytes of a resource name
	maxName      = 253     // DNS subdomain: pods, services, nodes
	maxLabel     = 63      // DNS label: namespaces, port names, zones
	maxText      = 768     // what the user wrote, kept for messages

	maxPodAddresses     = 4
	maxServiceAddresses = 16
	maxServicePorts     = 1024
	maxPortClusters     = 16     // backendRefs of one rule, Gateway API
	maxWeight           = 1e6    // weight of one backendRef, Gateway API
	maxAffinity         = 86400  // seconds, as in Service.spec
	maxEndpoints        = 10_000 // of one cluster
)

// unmarshal parses value, refusing oversized input before any work.
func unmarshal(value []byte, m proto.Message) error {
	if len(value) > maxResource {
		return fmt.Errorf("resource has %d bytes, the limit is %d", len(value), maxResource)
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return fmt.Errorf("not a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// checkName accepts the names that Kubernetes gives to objects. Everything
// that ends in a message, a metric or a file passes through here, so there are
// no control characters further in.
func checkName(field, s string, limit int) error {
	if s == "" {
		return fmt.Errorf("%s is empty", field)
	}
	return checkOptionalName(field, s, limit)
}

func checkOptionalName(field, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s has %d bytes, the limit is %d", field, len(s), limit)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return fmt.Errorf("%s %q has the character %q at byte %d; letters, digits, '-', '.' and '_' are allowed", field, s, c, i)
		}
	}
	return nil
}

// checkText accepts printable ASCII: descriptions such as "TCPRoute shop/canary".
func checkText(field, s string) error {
	if len(s) > maxText {
		return fmt.Errorf("%s has %d bytes, the limit is %d", field, len(s), maxText)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("%s has the unprintable byte %#x", field, s[i])
		}
	}
	return nil
}

func checkPort(field string, port uint32) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("%s is %d, it must be 1 to 65535", field, port)
	}
	return nil
}

// decodeAddress reads 4 or 16 bytes in network byte order. A mapped IPv4
// address in 16 bytes is refused: one address must have one form, or
// duplicates go unseen.
func decodeAddress(field string, b []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(b)
	switch {
	case !ok:
		return a, fmt.Errorf("%s has %d bytes, it must have 4 or 16", field, len(b))
	case a.Is4In6():
		return a, fmt.Errorf("%s %s is an IPv4 address in 16 bytes", field, a)
	case a.IsUnspecified(), a.IsMulticast(), a == broadcast:
		return a, fmt.Errorf("%s %s is no address that one can connect to", field, a)
	}
	return a, nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// decodeAddresses reads at most limit distinct addresses.
func decodeAddresses(field string, list [][]byte, limit int) ([]netip.Addr, error) {
	if len(list) > limit {
		return nil, fmt.Errorf("%d %s, the limit is %d", len(list), field, limit)
	}
	var out []netip.Addr
	for i, b := range list {
		a, err := decodeAddress(fmt.Sprintf("%s[%d]", field, i), b)
		if err != nil {
			return nil, err
		}
		for _, other := range out {
			if a == other {
				return nil, fmt.Errorf("%s has %s twice", field, a)
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// checkResourceName holds a resource to the name it travels under: kernel
// identifiers are derived from that name.
func checkResourceName(name, want string) error {
	if name != want {
		return fmt.Errorf("resource name does not match its contents, which are those of %q", want)
	}
	return nil
}

// typeName is the last part of a type URL: "Service".
func typeName(typeURL string) string {
	return typeURL[strings.LastIndexByte(typeURL, '.')+1:]
}
