package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// echoCommand is a server for the pods of a sandbox. It is a subcommand, so
// that a Pod can name it by `command: [heddlectl, echo]` wherever heddlectl is
// installed.
func (a *app) echoCommand() *cobra.Command {
	var s echoServer
	cmd := &cobra.Command{
		Use:    "echo",
		Short:  "Answer HTTP, TCP and UDP with the pod's name and what was sent",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return s.serve(cmd.Context()) },
	}
	host, _ := os.Hostname()
	if name := a.env("HOSTNAME"); name != "" {
		host = name
	}
	f := cmd.Flags()
	f.StringVar(&s.name, "name", host, "the name to answer with")
	f.StringVar(&s.http, "http", "", "address of the HTTP server (:8080)")
	f.StringVar(&s.tcp, "tcp", "", "address of the TCP server: every line comes back")
	f.StringVar(&s.udp, "udp", "", "address of the UDP server: every datagram comes back")
	return cmd
}

type echoServer struct {
	name           string
	http, tcp, udp string
}

// serve runs the servers that were asked for until the context ends or one of
// them fails.
func (s *echoServer) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	servers := 0
	for _, server := range []struct {
		addr string
		run  func(context.Context, string) error
	}{{s.http, s.serveHTTP}, {s.tcp, s.serveTCP}, {s.udp, s.serveUDP}} {
		if server.addr != "" {
			servers++
			go func() { cancel(server.run(ctx, server.addr)) }()
		}
	}
	if servers == 0 {
		return usage{errors.New("echo: give --http, --tcp or --udp")}
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// serveHTTP answers every request with the name on the first line, then what
// the server sees of the client.
func (s *echoServer) serveHTTP(_ context.Context, addr string) error {
	server := &http.Server{
		Addr: addr, ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s\n%s %s from %s\n", s.name, r.Method, r.URL.Path, r.RemoteAddr)
		}),
	}
	return server.ListenAndServe()
}

// serveTCP sends every line back with the name before it.
func (s *echoServer) serveTCP(ctx context.Context, addr string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				if _, err := fmt.Fprintf(conn, "%s %s\n", s.name, lines.Text()); err != nil {
					return
				}
			}
		}()
	}
}

// serveUDP sends every datagram back with the name before it.
func (s *echoServer) serveUDP(ctx context.Context, addr string) error {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", addr)
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		// A reply that cannot be sent is the peer's loss, as with any UDP.
		_, _ = conn.WriteTo(append([]byte(s.name+" "), buf[:n]...), peer)
	}
}
