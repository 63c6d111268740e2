package statetest

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"heddle.io/heddle/dataplane/state"
)

// Parse reads the text form of a snapshot, see state.Snapshot.String. Empty
// lines and lines that start with # are left out.
func Parse(text string) (*state.Snapshot, error) {
	p := parser{snapshot: &state.Snapshot{
		Workloads: map[string]state.Workload{},
		Services:  map[string]state.Service{},
		Clusters:  map[string]state.Cluster{},
	}}
	for n, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := p.line(words); err != nil {
			return nil, fmt.Errorf("line %d %q: %w", n+1, strings.TrimSpace(line), err)
		}
	}
	return p.snapshot, nil
}

// parser remembers the resource that the following lines belong to.
type parser struct {
	snapshot *state.Snapshot
	service  string
	cluster  string
}

func (p *parser) line(words []string) error {
	if p.cluster != "" && strings.Contains(words[0], ":") {
		return p.endpoint(words)
	}
	if _, err := strconv.ParseUint(words[0], 10, 32); err == nil {
		return p.weight(words)
	}
	if words[0] == "port" {
		return p.port(words[1:])
	}
	p.service, p.cluster = "", ""
	if len(words) < 2 {
		return fmt.Errorf("%s needs a name", words[0])
	}
	switch words[0] {
	case "node":
		p.snapshot.Node = state.Node{Name: words[1], Zone: attributes(words[2:])["zone"]}
		return nil
	case "workload":
		return p.workload(words[1], words[2:])
	case "service":
		return p.startService(words[1], words[2:])
	case "cluster":
		return p.startCluster(words[1], words[2:])
	}
	return fmt.Errorf("unknown word %q", words[0])
}

func (p *parser) workload(name string, words []string) error {
	w := state.Workload{}
	var ok bool
	if w.Namespace, w.Name, ok = strings.Cut(name, "/"); !ok {
		return fmt.Errorf("workload name %q is not namespace/name", name)
	}
	if len(words) == 0 {
		return fmt.Errorf("addresses are missing, write - for none")
	}
	var err error
	if w.Addresses, err = addresses(words[0]); err != nil {
		return err
	}
	a := attributes(words[1:])
	w.UID, w.ServiceAccount = a["uid"], a["sa"]
	_, w.Mesh = a["mesh"]
	_, w.HostNetwork = a["host"]
	_, w.SocketBypass = a["bypass"]
	p.snapshot.Workloads[name] = w
	return nil
}

func (p *parser) startService(resource string, words []string) error {
	s := state.Service{}
	name, scope, _ := strings.Cut(resource, "@")
	s.Scope = scope
	var ok bool
	if s.Namespace, s.Name, ok = strings.Cut(name, "/"); !ok {
		return fmt.Errorf("service name %q is not namespace/name", name)
	}
	if len(words) == 0 {
		return fmt.Errorf("addresses are missing, write - for none")
	}
	var err error
	if s.Addresses, err = addresses(words[0]); err != nil {
		return err
	}
	if text := attributes(words[1:])["affinity"]; text != "" {
		seconds, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return err
		}
		s.AffinitySeconds = uint32(seconds)
	}
	p.service = resource
	p.snapshot.Services[resource] = s
	return nil
}

func (p *parser) port(words []string) error {
	if p.service == "" || len(words) < 2 {
		return fmt.Errorf("want \"port NAME NUMBER/PROTOCOL\" under a service")
	}
	number, protocol, _ := strings.Cut(words[1], "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return err
	}
	port := state.Port{Name: undash(words[0]), Port: uint16(n)}
	switch protocol {
	case "tcp":
		port.Protocol = state.TCP
	case "udp":
		port.Protocol = state.UDP
	default:
		return fmt.Errorf("protocol %q is neither tcp nor udp", protocol)
	}
	port.Route = attributes(words[2:])["route"]
	s := p.snapshot.Services[p.service]
	s.Ports = append(s.Ports, port)
	p.snapshot.Services[p.service] = s
	return nil
}

func (p *parser) weight(words []string) error {
	s := p.snapshot.Services[p.service]
	if len(s.Ports) == 0 || len(words) < 2 {
		return fmt.Errorf("want \"WEIGHT CLUSTER [BACKEND]\" under a port")
	}
	weight, err := strconv.ParseUint(words[0], 10, 32)
	if err != nil {
		return err
	}
	w := state.WeightedCluster{Weight: uint32(weight), Cluster: undash(words[1])}
	if len(words) > 2 {
		w.Backend = undash(words[2])
	}
	port := &s.Ports[len(s.Ports)-1]
	port.Clusters = append(port.Clusters, w)
	return nil
}

func (p *parser) startCluster(name string, words []string) error {
	c := state.Cluster{Name: name}
	if len(words) > 0 {
		found := false
		for l := state.Anywhere; l <= state.OnlySameNode; l++ {
			if l.String() == words[0] {
				c.Locality, found = l, true
			}
		}
		if !found {
			return fmt.Errorf("unknown locality %q", words[0])
		}
		var err error
		if c.Policy, err = policy(attributes(words[1:])); err != nil {
			return err
		}
	}
	p.cluster = name
	p.snapshot.Clusters[name] = c
	return nil
}

func policy(a map[string]string) (p state.Policy, err error) {
	if text := a["timeout"]; text != "" {
		if p.ConnectTimeout, err = time.ParseDuration(text); err != nil {
			return p, err
		}
	}
	if text := a["max"]; text != "" {
		if _, err = fmt.Sscan(text, &p.MaxConnections); err != nil {
			return p, fmt.Errorf("max=%s: %w", text, err)
		}
	}
	if text := a["eject"]; text != "" {
		parts := strings.Split(strings.TrimSuffix(text, "%"), ",")
		if len(parts) != 3 {
			return p, fmt.Errorf("eject=%s is not FAILURES,TIME,PERCENT%%", text)
		}
		if _, err = fmt.Sscan(parts[0], &p.MaxFailures); err != nil {
			return p, fmt.Errorf("eject=%s: %w", text, err)
		}
		if p.Ejection, err = time.ParseDuration(parts[1]); err != nil {
			return p, err
		}
		if _, err = fmt.Sscan(parts[2], &p.MaxEjectionPercent); err != nil {
			return p, fmt.Errorf("eject=%s: %w", text, err)
		}
	}
	return p, nil
}

func (p *parser) endpoint(words []string) error {
	address, err := netip.ParseAddrPort(words[0])
	if err != nil {
		return err
	}
	a := attributes(words[1:])
	_, draining := a["draining"]
	c := p.snapshot.Clusters[p.cluster]
	c.Endpoints = append(c.Endpoints, state.Endpoint{
		Address: address, Node: a["node"], Zone: a["zone"], Workload: a["workload"], Draining: draining,
	})
	p.snapshot.Clusters[p.cluster] = c
	return nil
}

// attributes reads words like key=value; a word alone is a key without value.
func attributes(words []string) map[string]string {
	m := map[string]string{}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		m[key] = value
	}
	return m
}

func addresses(text string) ([]netip.Addr, error) {
	if text == "-" {
		return nil, nil
	}
	var all []netip.Addr
	for _, t := range strings.Split(text, ",") {
		a, err := netip.ParseAddr(t)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

func undash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}
