package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"heddle.io/heddle/bpf"
	"heddle.io/heddle/bpf/bpftest"
	"heddle.io/heddle/dataplane/nettest"
)

// TestMigrateSockets moves the storage of open sockets to a map with another
// layout, as an upgrade does, and leaves alone what a program wrote meanwhile.
func TestMigrateSockets(t *testing.T) {
	nettest.RequireBPF(t)
	const sockets = 3000 // more output than one read of the iterator takes
	oldMap := storageMap(t, bpf.Spec)
	newMap := storageMap(t, bpftest.NextSpec)
	if oldMap.ValueSize() == newMap.ValueSize() {
		t.Fatal("the next object has the same layout: nothing is tested")
	}

	fds := make([]int, sockets)
	for i := range fds {
		fds[i] = openSocket(t)
		if err := oldMap.Put(uint32(fds[i]), connVal(i)); err != nil {
			t.Fatalf("give socket %d a value: %v", i, err)
		}
	}
	bare := openSocket(t)
	fresh := bpftest.ConnVal{Service: 4711}
	if err := newMap.Put(uint32(fds[7]), fresh); err != nil {
		t.Fatal(err)
	}

	moved, err := bpf.MigrateSockets(oldMap, newMap, toNext)
	if err != nil {
		t.Fatal(err)
	}
	if moved != sockets {
		t.Errorf("%d sockets had a value, %d were found", sockets, moved)
	}
	for i, fd := range fds {
		want := nextVal(connVal(i))
		if i == 7 {
			want = fresh
		}
		var got bpftest.ConnVal
		if err := newMap.Lookup(uint32(fd), &got); err != nil {
			t.Fatalf("socket %d lost its value: %v", i, err)
		}
		if got != want {
			t.Fatalf("socket %d:\n got %+v\nwant %+v", i, got, want)
		}
	}
	var got bpftest.ConnVal
	if err := newMap.Lookup(uint32(bare), &got); err == nil {
		t.Errorf("a socket without a value has %+v now", got)
	}
}

// TestMigrateNothing: an empty map is no reason to fail an upgrade.
func TestMigrateNothing(t *testing.T) {
	nettest.RequireBPF(t)
	moved, err := bpf.MigrateSockets(storageMap(t, bpf.Spec), storageMap(t, bpftest.NextSpec), toNext)
	if moved != 0 || err != nil {
		t.Errorf("got %d, %v", moved, err)
	}
}

// TestMigrateUnconvertible: a value that cannot be converted stops the
// migration, and nothing half-done is written.
func TestMigrateUnconvertible(t *testing.T) {
	nettest.RequireBPF(t)
	oldMap, newMap := storageMap(t, bpf.Spec), storageMap(t, bpftest.NextSpec)
	fd := openSocket(t)
	if err := oldMap.Put(uint32(fd), connVal(1)); err != nil {
		t.Fatal(err)
	}
	_, err := bpf.MigrateSockets(oldMap, newMap, func([]byte) ([]byte, error) {
		return nil, fmt.Errorf("no such field")
	})
	if err == nil {
		t.Error("no error")
	}
	var got bpftest.ConnVal
	if err := newMap.Lookup(uint32(fd), &got); err == nil {
		t.Errorf("wrote %+v", got)
	}
}

func storageMap(t *testing.T, spec func() (*ebpf.CollectionSpec, error)) *ebpf.Map {
	t.Helper()
	s, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(s.Maps[bpf.MapConns])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func openSocket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func connVal(i int) bpf.ConnVal {
	var v bpf.ConnVal
	copy(v.ServiceAddr.B[:], net.IPv4(10, 96, byte(i>>8), byte(i)))
	copy(v.EndpointAddr.B[:], net.IPv4(10, 1, byte(i>>8), byte(i)))
	v.ServicePortBe, v.EndpointPortBe = bpf.PortBE(80), bpf.PortBE(uint16(8000+i))
	v.Flags = bpf.ConnCounted | bpf.ConnEstablished
	v.Service, v.Cluster = uint64(i)<<32|1, uint64(i)<<32|2
	return v
}

func nextVal(v bpf.ConnVal) bpftest.ConnVal {
	next := bpftest.ConnVal{
		ServicePortBe:  v.ServicePortBe,
		EndpointPortBe: v.EndpointPortBe,
		Service:        v.Service,
		Cluster:        v.Cluster,
		Next:           99,
	}
	next.ServiceAddr.B, next.EndpointAddr.B = v.ServiceAddr.B, v.EndpointAddr.B
	next.Flags = uint32(v.Flags)
	return next
}

func toNext(raw []byte) ([]byte, error) {
	var v bpf.ConnVal
	if _, err := binary.Decode(raw, binary.NativeEndian, &v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err := binary.Write(&out, binary.NativeEndian, nextVal(v))
	return out.Bytes(), err
}
