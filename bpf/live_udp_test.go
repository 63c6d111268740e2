package bpf_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
)

// TestConnectAgain: a datagram socket that is connected elsewhere forgets.
func TestConnectAgain(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.each(t, func(t *testing.T, i int) {
		way := ways[i]
		server, at := serve(t, domainOf(way.server), unix.SOCK_DGRAM, way.server)
		id := l.service(t, way.vip, udp, 0, at)
		vip := netip.MustParseAddrPort(way.vip)

		client := open(t, way.domain, unix.SOCK_DGRAM)
		if err := client.connect(way.domain, mapped(way.domain, way.vip)); err != nil {
			t.Fatal(err)
		}
		if got := client.peer(t); got != vip {
			t.Errorf("the peer is %s, want %s", got, vip)
		}
		if from := exchange(t, client, nil, server); from != vip {
			t.Errorf("the answer came from %s, want %s", from, vip)
		}
		if err := client.connect(way.domain, mapped(way.domain, at.String())); err != nil {
			t.Fatal(err)
		}
		if got := client.peer(t); got != at {
			t.Errorf("connected to the endpoint itself, the peer is %s, want %s", got, at)
		}
		if from := exchange(t, client, nil, server); from != at {
			t.Errorf("the answer came from %s, want %s", from, at)
		}
		if got, want := l.stat(id, at), (bpf.StatVal{Opened: 1, Closed: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
		// A refused call leaves the connection as it is.
		l.service(t, way.empty, udp, 0)
		if err := client.connect(way.domain, mapped(way.domain, way.empty)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("connect to an empty service: %v", err)
		}
		if from := exchange(t, client, nil, server); from != at {
			t.Errorf("after a refused connect the answer came from %s, want %s", from, at)
		}
	})
}

// TestUnconnected: a datagram socket keeps its endpoint while it is a member,
// and gets answers from the address it sent to.
func TestUnconnected(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.each(t, func(t *testing.T, i int) {
		way := ways[i]
		servers := map[netip.AddrPort]socket{}
		var at []netip.AddrPort
		for range 3 {
			s, a := serve(t, domainOf(way.server), unix.SOCK_DGRAM, way.server)
			servers[a], at = s, append(at, a)
		}
		id := l.service(t, way.vip, udp, 0, at...)
		vip := netip.MustParseAddrPort(mapped(way.domain, way.vip))
		client := open(t, way.domain, unix.SOCK_DGRAM)

		var chosen netip.AddrPort
		for range 20 {
			to := ask(t, client, sockaddr(way.domain, vip), servers)
			if chosen.IsValid() && to != chosen {
				t.Fatalf("the socket moved from %s to %s", chosen, to)
			}
			chosen = to
		}
		if got, want := l.stat(id, chosen), (bpf.StatVal{Opened: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}

		// The endpoint leaves: the agent removes it from the cluster, then as a member.
		var rest []netip.AddrPort
		for _, a := range at {
			if a != chosen {
				rest = append(rest, a)
			}
		}
		for i, a := range rest {
			put(t, l.maps[bpf.MapEndpoints], bpf.EndpointKey{Cluster: id, Index: uint32(i)},
				bpf.EndpointVal{Addr: bpf.AddrFrom(a.Addr()), PortBe: bpf.PortBE(a.Port()), Cluster: id})
		}
		put(t, l.maps[bpf.MapClusters], id, bpf.ClusterVal{Count: uint32(len(rest))})
		if err := l.maps[bpf.MapMembers].Delete(member(id, chosen)); err != nil {
			t.Fatal(err)
		}
		moved := ask(t, client, sockaddr(way.domain, vip), servers)
		if moved == chosen {
			t.Errorf("the socket still uses %s", chosen)
		}
		if got := l.stat(id, chosen); got.Closed != 1 {
			t.Errorf("the endpoint that left has %+v", got)
		}
		client.close(t)
		if got, want := l.stat(id, moved), (bpf.StatVal{Opened: 1, Closed: 1}); got != want {
			t.Errorf("after close: %+v, want %+v", got, want)
		}
	})
}

// TestAddressChangesHands: a socket that is used without a pause follows a
// service address to the service that got it, although the endpoint it was
// given still serves the service that had it.
func TestAddressChangesHands(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.each(t, func(t *testing.T, i int) {
		way := ways[i]
		before, atBefore := serve(t, domainOf(way.server), unix.SOCK_DGRAM, way.server)
		after, atAfter := serve(t, domainOf(way.server), unix.SOCK_DGRAM, way.server)
		servers := map[netip.AddrPort]socket{atBefore: before, atAfter: after}
		to := sockaddr(way.domain, netip.MustParseAddrPort(mapped(way.domain, way.vip)))

		l.service(t, way.vip, udp, 0, atBefore)
		client := open(t, way.domain, unix.SOCK_DGRAM)
		if got := ask(t, client, to, servers); got != atBefore {
			t.Fatalf("sent to %s, want %s", got, atBefore)
		}
		l.service(t, way.vip, udp, 0, atAfter)
		if got := ask(t, client, to, servers); got != atAfter {
			t.Errorf("sent to %s, want %s", got, atAfter)
		}
	})
}

// TestManyPeers: more destinations than a socket has slots for still work.
func TestManyPeers(t *testing.T) {
	l := newLive(t, bpf.Config{SetRetval: true})
	l.Do(t, func() {
		client := open(t, unix.AF_INET, unix.SOCK_DGRAM)
		for round := range 2 {
			for i := range 3 * bpf.MaxPeers {
				server, at := serve(t, unix.AF_INET, unix.SOCK_DGRAM, podB4)
				vip := fmt.Sprintf("10.96.1.%d:53", i)
				l.service(t, vip, udp, 0, at)
				to := netip.MustParseAddrPort(vip)
				if from := exchange(t, client, sockaddr(unix.AF_INET, to), server); from != to {
					t.Fatalf("round %d: the answer of %s came from %s", round, to, from)
				}
				server.close(t)
			}
		}
	})
}

// ask sends a datagram to a service and returns which server got it. The
// answer must come from the service.
func ask(t *testing.T, client socket, to unix.Sockaddr, servers map[netip.AddrPort]socket) netip.AddrPort {
	t.Helper()
	if err := unix.Sendto(int(client), []byte("ask"), 0, to); err != nil {
		t.Fatalf("sendto: %v", err)
	}
	var poll []unix.PollFd
	var order []netip.AddrPort
	for at, s := range servers {
		poll, order = append(poll, unix.PollFd{Fd: int32(s), Events: unix.POLLIN}), append(order, at)
	}
	if n, err := unix.Poll(poll, 3000); n != 1 || err != nil {
		t.Fatalf("%d servers got the datagram, %v", n, err)
	}
	for i := range poll {
		if poll[i].Revents != 0 {
			if from := answer(t, client, servers[order[i]]); from != addrPort(to) {
				t.Fatalf("the answer came from %s, want %s", from, addrPort(to))
			}
			return order[i]
		}
	}
	return netip.AddrPort{}
}

// exchange sends a datagram to a server, and returns where the answer came from.
func exchange(t *testing.T, client socket, to unix.Sockaddr, server socket) netip.AddrPort {
	t.Helper()
	var err error
	if to == nil {
		_, err = unix.Write(int(client), []byte("ask"))
	} else {
		err = unix.Sendto(int(client), []byte("ask"), 0, to)
	}
	if err != nil {
		t.Fatalf("send: %v", err)
	}
	return answer(t, client, server)
}

func answer(t *testing.T, client, server socket) netip.AddrPort {
	t.Helper()
	var buf [16]byte
	from, err := server.receive(buf[:])
	if err != nil {
		t.Fatalf("the server got nothing: %v", err)
	}
	if err := unix.Sendto(int(server), []byte("answer"), 0, from); err != nil {
		t.Fatal(err)
	}
	from, err = client.receive(buf[:])
	if err != nil {
		t.Fatalf("the client got no answer: %v", err)
	}
	return addrPort(from)
}
