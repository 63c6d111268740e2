package main

import (
	"strings"
	"testing"

	"heddle.io/heddle/api/admin"
)

func TestPickPort(t *testing.T) {
	services := []admin.Service{
		{Namespace: "shop", Name: "web", Port: 80, PortName: "http", Protocol: "tcp", Addresses: []string{"10.96.0.1", "fd00::1"}},
		{Namespace: "shop", Name: "web", Scope: "lab", Port: 80, PortName: "http", Protocol: "tcp", Addresses: []string{"10.96.0.1"}},
		{Namespace: "shop", Name: "two", Port: 80, PortName: "http", Protocol: "tcp", Addresses: []string{"10.96.0.2"}},
		{Namespace: "shop", Name: "two", Port: 90, PortName: "admin", Protocol: "tcp", Addresses: []string{"10.96.0.2"}},
		{Namespace: "shop", Name: "dns", Port: 53, Protocol: "UDP", Addresses: []string{"10.96.0.3"}},
	}
	for _, tt := range []struct{ name, port, protocol, want string }{
		{"web", "", "tcp", "10.96.0.1:80"},
		{"web", "80", "tcp", "10.96.0.1:80"},
		{"web", "http", "tcp", "10.96.0.1:80"},
		{"web", "81", "tcp", "10.96.0.1:81"}, // no port of the service: the kernel leaves it alone
		{"web", "", "tcp6", "no tcp6 port"},
		{"two", "admin", "tcp", "10.96.0.2:90"},
		{"two", "", "tcp", "has several ports, name one: 80/tcp http, 90/tcp admin"},
		{"two", "grpc", "tcp", "has no tcp port grpc, only 80/tcp http, 90/tcp admin"},
		{"dns", "", "udp", "10.96.0.3:53"},
		{"dns", "domain", "tcp", "has no tcp port domain, only 53/udp"},
		{"none", "", "tcp", "no service shop/none"},
	} {
		q := &whyQuestion{protocol: tt.protocol}
		to, err := pickPort(services, "shop", tt.name, tt.port, q)
		got := to.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s:%s %s: got %q, want %q", tt.name, tt.port, tt.protocol, got, tt.want)
		}
	}
	to, err := pickPort(services, "shop", "web", "", &whyQuestion{protocol: "tcp", v6: true})
	if err != nil || to.String() != "[fd00::1]:80" {
		t.Errorf("IPv6: got %s, %v", to, err)
	}
	if _, err := pickPort(services, "shop", "two", "80", &whyQuestion{protocol: "tcp", v6: true}); err == nil {
		t.Error("an IPv6 address was found where there is none")
	}
}
