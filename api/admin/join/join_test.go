package join

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// listen hands each connection on a socket of the test to f.
func listen(t *testing.T, f func(*net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c.(*net.UnixConn))
		}
	}()
	return path
}

func TestSocketCarriesBothWays(t *testing.T) {
	path := listen(t, func(c *net.UnixConn) {
		all, _ := io.ReadAll(c) // ends: the end of the input is handed on
		_, _ = c.Write(bytes.ToUpper(all))
		c.Close()
	})
	var out strings.Builder
	if err := Socket(t.Context(), "unix://"+path, strings.NewReader("question"), &out); err != nil || out.String() != "QUESTION" {
		t.Fatalf("got %q, %v", out.String(), err)
	}
}

// The server ends first; the input stays open.
func TestSocketEndsWithTheServer(t *testing.T) {
	path := listen(t, func(c *net.UnixConn) { _, _ = c.Write([]byte("bye")); c.Close() })
	in, _ := io.Pipe()
	var out strings.Builder
	if err := Socket(t.Context(), path, in, &out); err != nil || out.String() != "bye" {
		t.Fatalf("got %q, %v", out.String(), err)
	}
}

func TestSocketEndsWithTheContext(t *testing.T) {
	path := listen(t, func(c *net.UnixConn) { _, _ = io.ReadAll(c) })
	in, _ := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Socket(ctx, path, in, io.Discard); err == nil {
		t.Fatal("no error although the context ended")
	}
}

func TestSocketNobodyListens(t *testing.T) {
	err := Socket(t.Context(), filepath.Join(t.TempDir(), "none"), strings.NewReader(""), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "--socket") {
		t.Fatalf("got %v", err)
	}
}
