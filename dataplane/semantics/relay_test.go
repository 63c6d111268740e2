package semantics

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"heddle.io/heddle/dataplane/netns"
	"heddle.io/heddle/dataplane/nettest"
)

// TestRelayIsReported: a user-space proxy between the pods, as good as such
// proxies are, is not plain TCP, and the table says where. What a proxy does
// well stays equal.
func TestRelayIsReported(t *testing.T) {
	nettest.RequireBPF(t)
	w := world(t)
	through := w.Ends(false)
	through.Dial = relayOn(t, w)
	plain := func(rows []Row) []Outcome { return Run(t.Context(), w.Ends(false), rows) }
	relayed := func(rows []Row) []Outcome { return Run(t.Context(), through, rows) }

	broken := []string{"RST", "close with unread data", "urgent data", "names", "blocked recv and RST"}
	rows := named(t, broken)
	differences := Differences(plain(rows), relayed(rows))
	for _, name := range broken {
		if !slices.ContainsFunc(differences, func(d Difference) bool { return d.Row == name }) {
			t.Errorf("%q does not differ over a relay", name)
		}
	}
	for _, d := range differences {
		t.Log(d)
	}

	good := named(t, []string{"bulk both ways", "half-close", "FIONREAD", "the server speaks first"})
	_, _, differences = Compare(good, plain, relayed)
	for _, d := range differences {
		t.Errorf("differs although a relay can do it: %s", d)
	}
}

func named(t *testing.T, names []string) []Row {
	t.Helper()
	rows := slices.DeleteFunc(All(), func(r Row) bool { return !slices.Contains(names, r.Name) })
	if len(rows) != len(names) {
		t.Fatalf("%d of the rows %q exist", len(rows), names)
	}
	return rows
}

// relayOn copies between the server and whoever connects to the address that it
// returns. It runs on the node, until the test ends.
func relayOn(t *testing.T, w *World) netip.Addr {
	t.Helper()
	for i := range uint16(Ports) {
		here := netip.AddrPortFrom(gateway4, FirstPort+i)
		node, server := w.Node, netip.AddrPortFrom(w.Pods[1].IPv4, FirstPort+i)
		var l net.Listener
		err := netns.Do(w.Node, func() (err error) {
			l, err = net.Listen("tcp", here.String())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _ = relayTo(node, conn.(*net.TCPConn), server) }()
			}
		}()
	}
	return gateway4
}

func relayTo(node string, client *net.TCPConn, to netip.AddrPort) error {
	defer client.Close()
	var conn net.Conn
	err := netns.Do(node, func() (err error) {
		conn, err = net.Dial("tcp", to.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("dial %s: %w", to, err)
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(client, server)
		_ = client.CloseWrite()
	}()
	_, err = io.Copy(server, client)
	_ = server.CloseWrite()
	<-back
	return err
}
