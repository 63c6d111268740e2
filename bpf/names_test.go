package bpf_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"heddle.io/heddle/bpf"
)

// objectNames returns the names of the maps and of the programs in the object.
// Constants are a map to the kernel, but none of ours.
func objectNames(t *testing.T) (objectMaps, programs []string) {
	t.Helper()
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(spec.Maps, func(name string, _ *ebpf.MapSpec) bool { return name == ".rodata" })
	return slices.Sorted(maps.Keys(spec.Maps)), slices.Sorted(maps.Keys(spec.Programs))
}

// TestNames: the kernel cuts names after 15 characters.
func TestNames(t *testing.T) {
	objectMaps, programs := objectNames(t)
	for _, name := range slices.Concat(objectMaps, programs) {
		if len(name) > 15 || !strings.HasPrefix(name, "hd_") {
			t.Errorf("%q has more than 15 characters or does not begin with hd_", name)
		}
	}
}

// TestConstants: names.go has a constant for every map and program.
func TestConstants(t *testing.T) {
	source := read(t, "names.go")
	generated := read(t, "heddle_bpfel.go")
	for _, name := range regexp.MustCompile(`\bheddle(Map|Prog)Hd\w+`).FindAllString(generated, -1) {
		if !strings.Contains(source, "= "+name+"\n") {
			t.Errorf("names.go has no constant for %s", name)
		}
	}
}

// TestReadmeTables: the README lists what is in the object, and nothing else.
func TestReadmeTables(t *testing.T) {
	objectMaps, programs := objectNames(t)
	compare(t, "Maps", column(t, "Maps"), objectMaps)
	compare(t, "Programs", column(t, "Programs"), programs)
}

// TestReadmeReasons: the README has every reason's number and code. They are an
// upgrade contract: a change of an existing row is a mistake.
func TestReadmeReasons(t *testing.T) {
	spec, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("reason", &enum); err != nil {
		t.Fatal(err)
	}
	var inC, inGo []string
	for _, v := range enum.Values {
		if v.Name != "REASON_MAX" {
			inC = append(inC, fmt.Sprintf("%d %s", v.Value, strings.ToLower(strings.TrimPrefix(v.Name, "REASON_"))))
		}
	}
	for _, r := range bpf.Reasons() {
		inGo = append(inGo, fmt.Sprintf("%d %s", r, r))
	}
	compare(t, "enum reason", inGo, inC)
	compare(t, "Reasons", column(t, "Reasons"), inC)
}

func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// column returns what stands in backquotes in the first cell of every row of
// the table in one section of the README.
func column(t *testing.T, section string) []string {
	t.Helper()
	_, text, ok := strings.Cut(read(t, "README.md"), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("README.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var cells []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		cells = append(cells, row[1])
	}
	return cells
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
