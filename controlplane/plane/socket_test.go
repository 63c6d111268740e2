package plane

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// stale leaves a socket behind as a killed process does.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func TestSocketOfAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	stale(t, path)
	l, err := listenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if conn, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}

func TestSocketOfALiveProcess(t *testing.T) {
	for name, occupy := range map[string]func(string) (net.Listener, error){
		"a controller": func(path string) (net.Listener, error) { return listenUnix(t.Context(), path) },
		"another":      func(path string) (net.Listener, error) { return net.Listen("unix", path) },
	} {
		path := filepath.Join(t.TempDir(), "s.sock")
		l, err := occupy(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := listen(t.Context(), "--admin", "unix://"+path); !errors.Is(err, ErrEnvironment) || !strings.Contains(err.Error(), "stop it, or choose another socket") {
			t.Errorf("%s: %v", name, err)
		}
		if conn, err := net.Dial("unix", path); err != nil {
			t.Errorf("%s lost its socket: %v", name, err)
		} else {
			conn.Close()
		}
		l.Close()
		again, err := listenUnix(t.Context(), path)
		if err != nil {
			t.Fatalf("after %s ended: %v", name, err)
		}
		again.Close()
	}
}

// TestSocketRace: of many that start over a stale socket, one gets it.
func TestSocketRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	stale(t, path)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var got []net.Listener
	for range 20 {
		wait.Go(func() {
			if l, err := listenUnix(t.Context(), path); err == nil {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, l)
			}
		})
	}
	wait.Wait()
	if len(got) != 1 {
		t.Fatalf("%d got it, want one", len(got))
	}
	got[0].Close()
}

func TestSomethingElseAtThePath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(t.Context(), path); err == nil || !strings.Contains(err.Error(), "a file of another kind") {
		t.Errorf("error %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Error("the file is gone")
	}
}

// TestNewLeavesNothingOpen: when the second socket fails, the first is free.
func TestNewLeavesNothingOpen(t *testing.T) {
	c := config(t)
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	c.Listen = occupied.Addr().String()
	if _, err := New(t.Context(), c); !errors.Is(err, ErrEnvironment) || !strings.Contains(err.Error(), "--listen") {
		t.Fatalf("error %v", err)
	}
	c.Listen = config(t).Listen
	run(t, c)
}

func TestListenWithoutHostIsBothFamilies(t *testing.T) {
	hosts := []string{"127.0.0.1"}
	if six, err := net.Listen("tcp", "[::1]:0"); err == nil { // else this machine has no IPv6
		six.Close()
		hosts = append(hosts, "::1")
	}
	l, err := listen(t.Context(), "--listen", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, host := range hosts {
		c, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
}
