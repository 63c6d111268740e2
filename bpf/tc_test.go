package bpf_test

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
)

const (
	loopbackIfindex = 1 // where test runs put their packets
	next            = ^uint32(0)
	drop            = uint32(2)
)

// packets that a pod with 10.1.0.5 and fd00::5 may or may not send.
var packets = []struct {
	name   string
	hex    string // "(n)" stands for n zero bytes
	reason bpf.Reason
}{
	{"IPv4", eth("0800") + ipv4("10.1.0.5", "10.1.0.9", 1) + "(20)", bpf.ReasonNone},
	{"IPv4 spoofed", eth("0800") + ipv4("10.1.0.6", "10.1.0.9", 1) + "(20)", bpf.ReasonSpoofedSource},
	{"IPv4 unspecified", eth("0800") + ipv4("0.0.0.0", "255.255.255.255", udp) + "(20)", bpf.ReasonSpoofedSource},
	{"IPv4 short header", eth("0800") + "44" + ipv4("10.1.0.5", "10.1.0.9", 1)[2:] + "(20)", bpf.ReasonTruncated},
	{"IPv4 with IPv6 inside", eth("0800") + ipv6("fd00::5", "fd00::9", tcp, 64), bpf.ReasonTruncated},
	{"SYN to a service", eth("0800") + ipv4("10.1.0.5", "10.96.0.1", tcp) + ports + "0000000000000000" + "5002(6)", bpf.ReasonServiceUnhooked},
	{"SYN-ACK from a service's port", eth("0800") + ipv4("10.1.0.5", "10.96.0.1", tcp) + ports + "0000000000000000" + "5012(6)", bpf.ReasonNone},
	{"data to a service", eth("0800") + ipv4("10.1.0.5", "10.96.0.1", tcp) + ports + "0000000000000000" + "5010(6)", bpf.ReasonNone},
	{"SYN to another port", eth("0800") + ipv4("10.1.0.5", "10.96.0.1", tcp) + "04000051" + "0000000000000000" + "5002(6)", bpf.ReasonNone},
	{"SYN cut", eth("0800") + ipv4("10.1.0.5", "10.96.0.1", tcp) + ports, bpf.ReasonNone},
	{"datagram to a service", eth("0800") + ipv4("10.1.0.5", "10.96.0.1", udp) + ports + "00080000", bpf.ReasonServiceUnhooked},
	{"later fragment to a service", eth("0800") + fragment(ipv4("10.1.0.5", "10.96.0.1", udp)) + ports + "00080000", bpf.ReasonNone},
	{"later fragment, spoofed", eth("0800") + fragment(ipv4("10.1.0.6", "10.96.0.1", udp)) + ports + "00080000", bpf.ReasonSpoofedSource},

	{"IPv6", eth("86dd") + ipv6("fd00::5", "fd00::9", tcp, 64) + "(20)", bpf.ReasonNone},
	{"IPv6 spoofed", eth("86dd") + ipv6("fd00::6", "fd00::9", tcp, 64) + "(20)", bpf.ReasonSpoofedSource},
	{"IPv6 from a mapped address", eth("86dd") + ipv6("::ffff:10.1.0.5", "fd00::9", tcp, 64) + "(20)", bpf.ReasonSpoofedSource},
	{"IPv6 SYN to a service", eth("86dd") + ipv6("fd00::5", "fd96::1", tcp, 64) + ports + "0000000000000000" + "5002(6)", bpf.ReasonServiceUnhooked},
	{"neighbour solicitation", eth("86dd") + ipv6("fe80::5", "ff02::1", icmpv6, 255) + "87(7)" + addrHex("fd00::9"), bpf.ReasonNone},
	{"duplicate address detection", eth("86dd") + ipv6("::", "ff02::1", icmpv6, 255) + "87(7)" + addrHex("fd00::5"), bpf.ReasonNone},
	{"duplicate address detection, link-local", eth("86dd") + ipv6("::", "ff02::1", icmpv6, 255) + "87(7)" + addrHex("fe80::5"), bpf.ReasonNone},
	{"claim of another's address", eth("86dd") + ipv6("::", "ff02::1", icmpv6, 255) + "87(7)" + addrHex("fd00::6"), bpf.ReasonSpoofedSource},
	{"neighbour advertisement", eth("86dd") + ipv6("fd00::5", "fd00::9", icmpv6, 255) + "88(7)" + addrHex("fd00::5"), bpf.ReasonNone},
	{"link-local advertisement", eth("86dd") + ipv6("fe80::5", "fd00::9", icmpv6, 255) + "88(7)" + addrHex("fe80::5"), bpf.ReasonNone},
	{"advertisement of another's address", eth("86dd") + ipv6("fd00::5", "ff02::1", icmpv6, 255) + "88(7)" + addrHex("fd00::6"), bpf.ReasonSpoofedSource},
	{"advertisement of another's address, link-local", eth("86dd") + ipv6("fe80::5", "ff02::1", icmpv6, 255) + "88(7)" + addrHex("fd00::6"), bpf.ReasonSpoofedSource},
	{"advertisement cut", eth("86dd") + ipv6("fd00::5", "ff02::1", icmpv6, 255) + "88(7)" + "fd00", bpf.ReasonSpoofedSource},
	{"advertisement behind an extension", eth("86dd") + ipv6("fd00::5", "ff02::1", 60, 255) + "3a00010400000000" + "88(7)" + addrHex("fd00::6"), bpf.ReasonSpoofedSource},
	{"router advertisement", eth("86dd") + ipv6("fe80::5", "ff02::1", icmpv6, 255) + "86(15)", bpf.ReasonSpoofedSource},
	{"router advertisement from its own address", eth("86dd") + ipv6("fd00::5", "ff02::1", icmpv6, 255) + "86(15)", bpf.ReasonSpoofedSource},
	{"echo with the largest hop limit", eth("86dd") + ipv6("fd00::5", "fd00::9", icmpv6, 255) + "80(7)", bpf.ReasonNone},
	{"TCP with the largest hop limit", eth("86dd") + ipv6("fd00::5", "fd00::9", tcp, 255) + "(20)", bpf.ReasonNone},
	{"router solicitation", eth("86dd") + ipv6("fe80::5", "ff02::2", icmpv6, 255) + "85(7)", bpf.ReasonNone},
	{"redirect", eth("86dd") + ipv6("fe80::5", "ff02::1", icmpv6, 255) + "89(39)", bpf.ReasonSpoofedSource},
	{"forwarded solicitation", eth("86dd") + ipv6("fe80::5", "ff02::1", icmpv6, 254) + "87(23)", bpf.ReasonSpoofedSource},
	{"echo from a link-local address", eth("86dd") + ipv6("fe80::5", "ff02::1", icmpv6, 255) + "80(7)", bpf.ReasonSpoofedSource},
	{"solicitation from a foreign address", eth("86dd") + ipv6("fd00::6", "ff02::1", icmpv6, 255) + "87(23)", bpf.ReasonSpoofedSource},
	{"group report", eth("86dd") + ipv6("fe80::5", "ff02::16", 0, 1) + "3a00050200000100" + "8f(27)", bpf.ReasonNone},
	{"group report from nowhere", eth("86dd") + ipv6("::", "ff02::16", 0, 1) + "3a00050200000100" + "8f(27)", bpf.ReasonNone},
	{"group query", eth("86dd") + ipv6("fe80::5", "ff02::1", 0, 1) + "3a00050200000100" + "82(27)", bpf.ReasonSpoofedSource},
	{"TCP behind an extension", eth("86dd") + ipv6("fe80::5", "fd00::9", 0, 1) + "0600050200000100" + "8f(27)", bpf.ReasonSpoofedSource},
	{"group report cut", eth("86dd") + ipv6("fe80::5", "ff02::16", 0, 1) + "3aff", bpf.ReasonSpoofedSource},

	{"ARP", eth("0806") + "0001080006040001" + "020000000005" + "0a010005" + "(10)", bpf.ReasonNone},
	{"ARP probe", eth("0806") + "0001080006040001" + "020000000005" + "00000000" + "(10)", bpf.ReasonNone},
	{"ARP spoofed", eth("0806") + "0001080006040002" + "020000000005" + "0a010006" + "(10)", bpf.ReasonSpoofedSource},
	{"ARP for another protocol", eth("0806") + "0001880006040001" + "020000000005" + "0a010005" + "(10)", bpf.ReasonEthertype},
	{"ARP cut", eth("0806") + "00010800", bpf.ReasonTruncated},
	{"tagged", eth("8100") + "00010800" + ipv4("10.1.0.5", "10.1.0.9", 1) + "(20)", bpf.ReasonEthertype},
	{"LLDP", eth("88cc") + "(46)", bpf.ReasonEthertype},
	{"EAPOL", eth("888e") + "(46)", bpf.ReasonEthertype},
}

const (
	icmpv6 = 58
	ports  = "04000050" // from 1024 to 80
)

func TestFromPod(t *testing.T) {
	program, maps := load(t, bpf.ProgTCIn)
	iface := bpf.IfaceVal{AddrCount: 2}
	iface.Addr[0] = bpf.AddrFrom(netip.MustParseAddr("10.1.0.5"))
	iface.Addr[1] = bpf.AddrFrom(netip.MustParseAddr("fd00::5"))
	put(t, maps[bpf.MapIfaces], uint32(loopbackIfindex), iface)
	for _, vip := range []string{"10.96.0.1", "fd96::1"} {
		for _, proto := range []uint8{tcp, udp} {
			key := bpf.ServiceKey{Addr: bpf.AddrFrom(netip.MustParseAddr(vip)), PortBe: bpf.PortBE(80), Proto: proto}
			put(t, maps[bpf.MapServices], key, bpf.ServiceVal{Service: 1})
		}
	}
	for _, p := range packets {
		t.Run(p.name, func(t *testing.T) {
			packet := bytesOf(t, p.hex)
			before, statBefore := reasonCounts(t, maps), ifaceStat(t, maps)
			verdict := send(t, program, packet)
			passes := p.reason == bpf.ReasonNone || p.reason == bpf.ReasonServiceUnhooked
			if passes != (verdict == next) || !passes && verdict != drop {
				t.Errorf("returned %d", int32(verdict))
			}
			if p.reason != bpf.ReasonNone {
				before[p.reason]++
			}
			if after := reasonCounts(t, maps); !slices.Equal(after, before) {
				t.Errorf("counted\n     %v\nwant %v", after, before)
			}
			if passes {
				statBefore.RxPackets++
				statBefore.RxBytes += uint64(len(packet))
			} else {
				statBefore.Dropped++
			}
			if stat := ifaceStat(t, maps); stat != statBefore {
				t.Errorf("counted %+v, want %+v", stat, statBefore)
			}
		})
	}
}

func TestToPod(t *testing.T) {
	program, maps := load(t, bpf.ProgTCOut)
	put(t, maps[bpf.MapIfaces], uint32(loopbackIfindex), bpf.IfaceVal{})
	packet := bytesOf(t, eth("0800")+ipv4("10.1.0.9", "10.1.0.5", tcp)+"(20)")
	if verdict := send(t, program, packet); verdict != next {
		t.Errorf("returned %d", int32(verdict))
	}
	want := bpf.IfaceStat{TxPackets: 1, TxBytes: uint64(len(packet))}
	if stat := ifaceStat(t, maps); stat != want {
		t.Errorf("counted %+v, want %+v", stat, want)
	}
}

// TestNotProgrammed: an interface without an entry passes nothing.
func TestNotProgrammed(t *testing.T) {
	for _, name := range []string{bpf.ProgTCIn, bpf.ProgTCOut} {
		program, maps := load(t, name)
		packet := bytesOf(t, eth("0800")+ipv4("10.1.0.5", "10.1.0.9", tcp)+"(20)")
		if verdict := send(t, program, packet); verdict != drop {
			t.Errorf("%s returned %d", name, int32(verdict))
		}
		if n := reasonCounts(t, maps)[bpf.ReasonNotProgrammed]; n != 1 {
			t.Errorf("%s counted %d packets", name, n)
		}
	}
}

func send(t *testing.T, program *ebpf.Program, packet []byte) uint32 {
	t.Helper()
	verdict, err := program.Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

func reasonCounts(t *testing.T, maps map[string]*ebpf.Map) []uint64 {
	t.Helper()
	counts := make([]uint64, len(bpf.Reasons()))
	for i := range counts {
		var perCPU []uint64
		if err := maps[bpf.MapReasons].Lookup(uint32(i), &perCPU); err != nil {
			t.Fatal(err)
		}
		for _, n := range perCPU {
			counts[i] += n
		}
	}
	return counts
}

func ifaceStat(t *testing.T, maps map[string]*ebpf.Map) (sum bpf.IfaceStat) {
	t.Helper()
	var perCPU []bpf.IfaceStat
	if err := maps[bpf.MapIfStats].Lookup(uint32(loopbackIfindex), &perCPU); err != nil {
		return bpf.IfaceStat{} // no packet yet
	}
	for _, s := range perCPU {
		sum.RxPackets += s.RxPackets
		sum.RxBytes += s.RxBytes
		sum.TxPackets += s.TxPackets
		sum.TxBytes += s.TxBytes
		sum.Dropped += s.Dropped
	}
	return sum
}

func eth(ethertype string) string { return "020000000001" + "020000000005" + ethertype }

func ipv4(src, dst string, proto uint8) string {
	return "45000028" + "00010000" + "40" + hex.EncodeToString([]byte{proto}) + "0000" + addrHex(src) + addrHex(dst)
}

func fragment(ip string) string { return ip[:12] + "0001" + ip[16:] }

func ipv6(src, dst string, proto, hops uint8) string {
	return "60000000" + "0014" + hex.EncodeToString([]byte{proto, hops}) + addrHex(src) + addrHex(dst)
}

func addrHex(text string) string {
	return hex.EncodeToString(netip.MustParseAddr(text).AsSlice())
}

// bytesOf parses hexadecimal digits, with "(n)" for n zero bytes.
func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	for {
		before, rest, ok := strings.Cut(text, "(")
		if !ok {
			break
		}
		number, after, _ := strings.Cut(rest, ")")
		n := 0
		for _, digit := range number {
			n = n*10 + int(digit-'0')
		}
		text = before + strings.Repeat("00", n) + after
	}
	packet, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return packet
}
