package attach

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cilium/ebpf/btf"
)

var (
	u8  = &btf.Int{Name: "u8", Size: 1}
	u16 = &btf.Int{Name: "u16", Size: 2}
	u32 = &btf.Int{Name: "u32", Size: 4}
	u64 = &btf.Int{Name: "u64", Size: 8}
	s32 = &btf.Int{Name: "s32", Size: 4, Encoding: btf.Signed}
	s64 = &btf.Int{Name: "s64", Size: 8, Encoding: btf.Signed}
)

type member struct {
	name string
	typ  btf.Type
}

// structOf lays members out one after the other, without padding.
func structOf(name string, members ...member) *btf.Struct {
	s := &btf.Struct{Name: name}
	for _, m := range members {
		size, err := btf.Sizeof(m.typ)
		if err != nil {
			panic(err)
		}
		s.Members = append(s.Members, btf.Member{Name: m.name, Type: m.typ, Offset: btf.Bits(s.Size * 8)})
		s.Size += uint32(size)
	}
	return s
}

func arrayOf(t btf.Type, n uint32) *btf.Array { return &btf.Array{Index: u32, Type: t, Nelems: n} }

func conversionOf(t *testing.T, from, to btf.Type) conversion {
	t.Helper()
	f, err := fieldsOf(from)
	if err != nil {
		t.Fatal(err)
	}
	g, err := fieldsOf(to)
	if err != nil {
		t.Fatal(err)
	}
	size, err := btf.Sizeof(to)
	if err != nil {
		t.Fatal(err)
	}
	return newConversion(f, g, uint32(size))
}

func TestFieldsNamePathsAndOffsets(t *testing.T) {
	addr := structOf("addr", member{"b", arrayOf(u8, 16)})
	col := structOf("column", member{"cluster", u64}, member{"cut", u32}, member{"alias", u32})
	typ := structOf("val", member{"addr", addr}, member{"col", arrayOf(col, 2)}, member{"port_be", &btf.Typedef{Name: "__be16", Type: u16}})
	got, err := fieldsOf(typ)
	if err != nil {
		t.Fatal(err)
	}
	want := []field{
		{"addr.b", 0, 16, false, true},
		{"col[0].cluster", 16, 8, false, false}, {"col[0].cut", 24, 4, false, false}, {"col[0].alias", 28, 4, false, false},
		{"col[1].cluster", 32, 8, false, false}, {"col[1].cut", 40, 4, false, false}, {"col[1].alias", 44, 4, false, false},
		{"port_be", 48, 2, false, false},
	}
	if !slices.Equal(got, want) {
		t.Errorf("fields\n got %v\nwant %v", got, want)
	}
}

func TestConversionFollowsNames(t *testing.T) {
	from := structOf("v", member{"a", u32}, member{"gone", u32}, member{"b", arrayOf(u8, 4)}, member{"c", arrayOf(u16, 3)})
	to := structOf("v", member{"new", u64}, member{"c", arrayOf(u16, 2)}, member{"b", arrayOf(u8, 6)}, member{"a", u64})
	src := []byte{1, 2, 3, 4, 9, 9, 9, 9, 'w', 'x', 'y', 'z', 5, 0, 6, 0, 7, 0}
	want := []byte{0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 6, 0, 'w', 'x', 'y', 'z', 0, 0, 1, 2, 3, 4, 0, 0, 0, 0}
	got, ok := conversionOf(t, from, to).apply(src)
	if !ok || !bytes.Equal(got, want) {
		t.Errorf("converted to %v, %v; want %v", got, ok, want)
	}
}

func TestConversionOfNumbers(t *testing.T) {
	for _, test := range []struct {
		name     string
		from, to btf.Type
		in       uint64
		want     uint64
		fits     bool
	}{
		{"widen", u16, u64, 0xfedc, 0xfedc, true},
		{"widen negative", s32, s64, 0xfffffffe, 0xfffffffffffffffe, true},
		{"narrow", u64, u16, 0xfedc, 0xfedc, true},
		{"narrow too much", u64, u16, 0x1fedc, 0, false},
		{"narrow negative", s64, s32, 0xfffffffffffffffe, 0xfffffffe, true},
		{"narrow past the sign", s64, s32, 0x80000000, 0, false},
		{"unchanged", u64, u64, 0xffffffffffffffff, 0xffffffffffffffff, true},
	} {
		src := binary.LittleEndian.AppendUint64(nil, test.in)
		got, fits := conversionOf(t, test.from, test.to).apply(src)
		var buf [8]byte
		copy(buf[:], got)
		if n := binary.LittleEndian.Uint64(buf[:]); fits != test.fits || fits && n != test.want {
			t.Errorf("%s: %#x became %#x, %v; want %#x, %v", test.name, test.in, n, fits, test.want, test.fits)
		}
	}
}

func TestLayoutsEqual(t *testing.T) {
	base := structOf("v", member{"a", u32}, member{"b", u32})
	for name, test := range map[string]struct {
		other btf.Type
		equal bool
	}{
		"same":            {structOf("other_tag", member{"a", u32}, member{"b", qualified(u32)}), true},
		"field renamed":   {structOf("v", member{"a", u32}, member{"c", u32}), false},
		"fields swapped":  {structOf("v", member{"b", u32}, member{"a", u32}), false},
		"field retyped":   {structOf("v", member{"a", u32}, member{"b", arrayOf(u8, 4)}), false},
		"field appended":  {structOf("v", member{"a", u32}, member{"b", u32}, member{"c", u32}), false},
		"bare integer":    {u64, false},
		"nested the same": {structOf("v", member{"", base}), true},
	} {
		size, err := btf.Sizeof(test.other)
		if err != nil {
			t.Fatal(err)
		}
		l, err := layoutOf(u64, base, 8, 8)
		if err != nil {
			t.Fatal(err)
		}
		o, err := layoutOf(u64, test.other, 8, uint32(size))
		if err != nil {
			t.Fatal(err)
		}
		if l.equal(o) != test.equal {
			t.Errorf("%s: equal is %v, want %v", name, l.equal(o), test.equal)
		}
	}
}

// qualified wraps a type so that only a look through qualifiers finds it.
func qualified(t btf.Type) btf.Type { return &btf.Const{Type: &btf.Typedef{Name: "__u32", Type: t}} }

func TestLayoutCounts(t *testing.T) {
	for name, test := range map[string]struct {
		value btf.Type
		size  uint32
		want  bool
	}{
		"one counter":  {u64, 8, true},
		"counters":     {structOf("s", member{"a", u64}, member{"b", u64}), 16, true},
		"short number": {structOf("s", member{"a", u64}, member{"b", u32}), 12, false},
		"address":      {structOf("s", member{"a", arrayOf(u8, 16)}), 16, false},
	} {
		l, err := layoutOf(u32, test.value, 4, test.size)
		if err != nil {
			t.Fatal(err)
		}
		if l.counts() != test.want {
			t.Errorf("%s: counts is %v", name, l.counts())
		}
	}
}

func TestLayoutRefusesWhatItCannotMove(t *testing.T) {
	for name, typ := range map[string]btf.Type{
		"pointer":  structOf("v", member{"p", &btf.Pointer{Target: u64}}),
		"union":    &btf.Union{Name: "u", Size: 8},
		"bitfield": &btf.Struct{Name: "v", Size: 4, Members: []btf.Member{{Name: "bit", Type: u32, BitfieldSize: 1}}},
		"no type":  nil,
	} {
		if _, err := layoutOf(u64, typ, 8, 8); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
