package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// MigrateSockets gives every socket that has a value in the socket storage map
// old its converted value in the map new, unless it has one there already. So
// programs are switched to new first: a socket that they touch meanwhile keeps
// what they wrote. convert gets an old value and returns one of new's size; it
// must not keep its argument. It returns how many sockets had a value.
//
// It needs a kernel with BTF and bpf_sk_storage_get in iterators (Linux 5.11);
// sockets are not interrupted. When it fails, sockets that it did not reach
// lose their entry: their connections go on, but getpeername shows the endpoint.
func MigrateSockets(old, new *ebpf.Map, convert func([]byte) ([]byte, error)) (int, error) {
	spec, err := loadMigrate()
	if err != nil {
		return 0, fmt.Errorf("read the embedded migration object: %w", err)
	}
	if err := spec.Variables[migrateVarCfgOldSize].Set(old.ValueSize()); err != nil {
		return 0, fmt.Errorf("set the old value size: %w", err)
	}
	reader, err := loadIterator(spec, migrateProgHdMigRead, nil)
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	raw, err := iterate(reader, old)
	if err != nil {
		return 0, fmt.Errorf("read socket storage: %w", err)
	}
	converted, err := convertAll(raw, int(old.ValueSize()), convert)
	if err != nil || len(converted) == 0 {
		return 0, err
	}
	return len(converted), writeSockets(spec, old, new, converted)
}

// convertAll reads the (cookie, value) records that hd_mig_read wrote.
func convertAll(raw []byte, size int, convert func([]byte) ([]byte, error)) (map[uint64][]byte, error) {
	record := 8 + size
	if len(raw)%record != 0 {
		return nil, fmt.Errorf("read socket storage: %d bytes are no whole number of records of %d bytes", len(raw), record)
	}
	converted := make(map[uint64][]byte, len(raw)/record)
	for ; len(raw) > 0; raw = raw[record:] {
		value, err := convert(raw[8:record])
		if err != nil {
			return nil, fmt.Errorf("convert socket storage: %w", err)
		}
		converted[binary.NativeEndian.Uint64(raw)] = value
	}
	return converted, nil
}

// writeSockets runs hd_mig_write over the sockets of old.
func writeSockets(spec *ebpf.CollectionSpec, old, new *ebpf.Map, converted map[uint64][]byte) error {
	hash := spec.Maps[migrateMapHdConverted]
	hash.ValueSize = new.ValueSize()
	hash.MaxEntries = uint32(len(converted))
	values, err := ebpf.NewMap(hash)
	if err != nil {
		return fmt.Errorf("create the map of converted values: %w", err)
	}
	defer values.Close()
	for cookie, value := range converted {
		if err := values.Put(cookie, value); err != nil {
			return fmt.Errorf("fill the map of converted values: %w", err)
		}
	}

	spec.Maps[migrateMapHdNew].ValueSize = new.ValueSize()
	writer, err := loadIterator(spec, migrateProgHdMigWrite, map[string]*ebpf.Map{
		migrateMapHdConverted: values,
		migrateMapHdNew:       new,
	})
	if err != nil {
		return err
	}
	defer writer.Close()
	if _, err := iterate(writer, old); err != nil {
		return fmt.Errorf("write socket storage: %w", err)
	}
	return nil
}

// loadIterator loads one of the two programs.
func loadIterator(spec *ebpf.CollectionSpec, name string, maps map[string]*ebpf.Map) (*ebpf.Program, error) {
	spec = spec.Copy()
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	if maps == nil {
		delete(spec.Maps, migrateMapHdConverted)
		delete(spec.Maps, migrateMapHdNew)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, err)
	}
	defer coll.Close()
	return coll.DetachProgram(name), nil
}

// iterate runs a program over all sockets in a storage map, and returns what it
// wrote.
func iterate(program *ebpf.Program, m *ebpf.Map) (_ []byte, err error) {
	iter, err := link.AttachIter(link.IterOptions{Program: program, Map: m})
	if err != nil {
		return nil, fmt.Errorf("attach iterator: %w", err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	r, err := iter.Open()
	if err != nil {
		return nil, fmt.Errorf("open iterator: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		return nil, fmt.Errorf("run iterator: %w", err)
	}
	return out.Bytes(), nil
}
