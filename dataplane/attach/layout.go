package attach

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf/btf"
)

// field is one leaf of a C type: an integer, or an array of bytes.
type field struct {
	path   string // such as "column[2].cut"; empty for a bare integer
	offset uint32 // bytes
	size   uint32 // bytes
	signed bool
	bytes  bool
}

// fieldsOf lists the leaves of a type in the order of their offsets. Two types
// with equal lists have the same layout and the same meaning of every byte.
func fieldsOf(t btf.Type) ([]field, error) {
	return appendFields(nil, t, "", 0)
}

func appendFields(out []field, t btf.Type, path string, offset uint32) ([]field, error) {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		return append(out, field{path, offset, t.Size, t.Encoding == btf.Signed, false}), nil
	case *btf.Enum:
		return append(out, field{path, offset, t.Size, t.Signed, false}), nil
	case *btf.Array:
		return appendArray(out, t, path, offset)
	case *btf.Struct:
		for _, m := range t.Members {
			if m.BitfieldSize != 0 {
				return nil, fmt.Errorf("field %s.%s is a bitfield", t.Name, m.Name)
			}
			at := m.Name
			if path != "" && at != "" {
				at = path + "." + m.Name
			}
			var err error
			if out, err = appendFields(out, m.Type, at, offset+m.Offset.Bytes()); err != nil {
				return nil, err
			}
		}
		return out, nil
	default:
		return nil, fmt.Errorf("field %q has type %v, which a map entry may not hold", path, t)
	}
}

func appendArray(out []field, a *btf.Array, path string, offset uint32) ([]field, error) {
	size, err := btf.Sizeof(a.Type)
	if err != nil {
		return nil, fmt.Errorf("element of %q: %w", path, err)
	}
	if size == 1 {
		return append(out, field{path: path, offset: offset, size: a.Nelems, bytes: true}), nil
	}
	for i := range a.Nelems {
		at := fmt.Sprintf("%s[%d]", path, i)
		if out, err = appendFields(out, a.Type, at, offset+i*uint32(size)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// layout is the shape of a map's entries.
type layout struct {
	key, value         []field
	keySize, valueSize uint32
}

func layoutOf(key, value btf.Type, keySize, valueSize uint32) (layout, error) {
	if key == nil || value == nil {
		return layout{}, fmt.Errorf("it carries no type information")
	}
	k, err := fieldsOf(key)
	if err != nil {
		return layout{}, fmt.Errorf("key: %w", err)
	}
	v, err := fieldsOf(value)
	if err != nil {
		return layout{}, fmt.Errorf("value: %w", err)
	}
	return layout{k, v, keySize, valueSize}, nil
}

func (l layout) equal(o layout) bool {
	return l.keySize == o.keySize && l.valueSize == o.valueSize &&
		slices.Equal(l.key, o.key) && slices.Equal(l.value, o.value)
}

// counts reports whether values are nothing but 64-bit counters, which can be
// added to each other.
func (l layout) counts() bool {
	for _, f := range l.value {
		if f.size != 8 || f.bytes || f.signed {
			return false
		}
	}
	return len(l.value)*8 == int(l.valueSize)
}

// move is one field that both layouts have.
type move struct{ from, to field }

// conversion rewrites the bytes of one type into those of another: fields with
// the same path keep their value, all others are zero.
type conversion struct {
	size  uint32 // of the result
	moves []move
}

func newConversion(from, to []field, size uint32) conversion {
	byPath := make(map[string]field, len(from))
	for _, f := range from {
		byPath[f.path] = f
	}
	c := conversion{size: size}
	for _, t := range to {
		if f, ok := byPath[t.path]; ok && f.bytes == t.bytes {
			c.moves = append(c.moves, move{f, t})
		}
	}
	return c
}

// apply returns the converted bytes, or false when a number does not fit into
// its narrower successor. The objects are little-endian, as is the host.
func (c conversion) apply(src []byte) ([]byte, bool) {
	dst := make([]byte, c.size)
	for _, m := range c.moves {
		from := src[m.from.offset : m.from.offset+m.from.size]
		to := dst[m.to.offset : m.to.offset+m.to.size]
		n := copy(to, from)
		if m.to.bytes {
			continue
		}
		fill := byte(0)
		if m.from.signed && from[len(from)-1]&0x80 != 0 {
			fill = 0xff
		}
		for i := n; i < len(to); i++ {
			to[i] = fill
		}
		if n < len(from) && !onlySignBytes(from[n:], fill, m.to.signed, to[n-1]) {
			return nil, false
		}
	}
	return dst, true
}

// onlySignBytes reports whether the bytes cut off a number carry no value.
func onlySignBytes(cut []byte, fill byte, signed bool, top byte) bool {
	for _, b := range cut {
		if b != fill {
			return false
		}
	}
	return !signed || top&0x80 == fill&0x80
}
