package source

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"heddle.io/heddle/controlplane/model"
)

// checks collects every violation of an object, each with its field.
type checks []error

func (c *checks) add(field, format string, args ...any) {
	*c = append(*c, fmt.Errorf("%s: "+format, append([]any{field}, args...)...))
}

// err returns all violations, or nil.
func (c checks) err() error {
	if len(c) > maxViolations {
		c = append(c[:maxViolations:maxViolations], fmt.Errorf("and %d more violations", len(c)-maxViolations))
	}
	return errors.Join(c...)
}

// maxViolations is how many an operator is told about at once.
const maxViolations = 10

// result returns the object, or what is wrong with it.
func (c checks) result(o *object) (*object, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	return o, nil
}

// checkID refuses names that no object can have.
func checkID(i id) error {
	rule := validation.IsDNS1123Subdomain
	if i.Kind == serviceKind || i.Kind == namespaceKind {
		rule = validation.IsDNS1123Label
	}
	var c checks
	c.name("metadata.name", i.Key.Name, rule)
	c.name("metadata.namespace", i.Key.Namespace, validation.IsDNS1123Label)
	return c.err()
}

// printable makes foreign text fit for one line of a message.
func printable(s string) string {
	const most = 80
	cut := ""
	if len(s) > most {
		s, cut = s[:most], "…"
	}
	quoted := strconv.QuoteToASCII(s)
	if quoted == `"`+s+`"` && s != "" {
		return s + cut
	}
	return quoted + cut
}

func key(namespace, name string) model.Key {
	if namespace == "" {
		namespace = "default"
	}
	return model.Key{Namespace: namespace, Name: name}
}

// address reads an address that a connection can be made to. Each has one form:
// IPv4 in IPv6 would be seen as another address than itself.
func (c *checks) address(field, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		c.add(field, "%s is not an IP address", printable(text))
	case a.Zone() != "":
		c.add(field, "%s has a zone", printable(text))
	case a.Is4In6():
		c.add(field, "%s is an IPv4 address written as IPv6; write %s", a, a.Unmap())
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == broadcast:
		c.add(field, "%s is not an address of a pod or a Service", a)
	default:
		return a, true
	}
	return a, false
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func (c *checks) port(field string, port int32) (uint16, bool) {
	if port < 1 || port > 65535 {
		c.add(field, "%d is not a port, use 1 to 65535", port)
		return 0, false
	}
	return uint16(port), true
}

// protocol reads a protocol; none is TCP.
func (c *checks) protocol(field string, p corev1.Protocol) model.Protocol {
	switch p {
	case "", corev1.ProtocolTCP:
		return model.TCP
	case corev1.ProtocolUDP:
		return model.UDP
	case corev1.ProtocolSCTP:
		return model.SCTP
	}
	c.add(field, "%s is not a protocol, use TCP, UDP or SCTP", printable(string(p)))
	return 0
}

// name checks an optional name.
func (c *checks) name(field, name string, rule func(string) []string) {
	if name == "" {
		return
	}
	if problems := rule(name); len(problems) > 0 {
		c.add(field, "%s: %s", printable(name), problems[0])
	}
}

// text checks an optional identifier that only has to be short and harmless.
func (c *checks) text(field, s string) {
	ok := len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == ""
	if !ok {
		c.add(field, "%s: at most 253 letters, digits, '-', '.' and '_' are allowed", printable(s))
	}
}

// labelValue is a rule for name.
func labelValue(s string) []string { return validation.IsValidLabelValue(s) }
