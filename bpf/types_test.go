package bpf_test

import (
	"net/netip"
	"testing"

	"heddle.io/heddle/bpf"
)

func TestAddr(t *testing.T) {
	for _, text := range []string{"10.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "fd00::a:b"} {
		ip := netip.MustParseAddr(text)
		if got := bpf.AddrOf(bpf.AddrFrom(ip)); got != ip {
			t.Errorf("%s came back as %s", ip, got)
		}
	}
	mapped := bpf.AddrFrom(netip.MustParseAddr("::ffff:10.0.0.1"))
	if mapped != bpf.AddrFrom(netip.MustParseAddr("10.0.0.1")) {
		t.Errorf("a mapped address is stored as %x", mapped.B)
	}
	if got := bpf.AddrFrom(netip.Addr{}); got != (bpf.Addr{}) {
		t.Errorf("no address is stored as %x", got.B)
	}
}

func TestPort(t *testing.T) {
	for _, port := range []uint16{0, 1, 80, 255, 256, 65535} {
		if got := bpf.Port(bpf.PortBE(port)); got != port {
			t.Errorf("%d came back as %d", port, got)
		}
	}
}

func TestVerdictNames(t *testing.T) {
	for v, want := range map[bpf.Verdict]string{
		bpf.VerdictPass: "pass", bpf.VerdictTranslate: "translate", bpf.VerdictRefuse: "refuse", 99: "unknown",
	} {
		if v.String() != want {
			t.Errorf("verdict %d is %q, want %q", v, v, want)
		}
	}
}
