package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/nettest"
	"heddle.io/heddle/dataplane/semantics"
	"heddle.io/heddle/install/sandbox"
)

// TestReadmeListsEveryRow, with what it checks, in the order of the table.
func TestReadmeListsEveryRow(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(text), "\n## Rows\n")
	if !ok {
		t.Fatal("README.md has no section Rows")
	}
	var documented []string
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| row |") {
			documented = append(documented, strings.TrimSpace(line))
		}
	}
	for i, r := range semantics.All() {
		mark := ""
		if r.Short {
			mark = "*start*"
		}
		want := "| " + strings.Join([]string{r.Name, r.Group, mark, r.Checks}, " | ") + " |"
		if i >= len(documented) || documented[i] != want {
			t.Fatalf("README.md, line %d of the rows: want\n%s", i+1, want)
		}
	}
	if len(documented) > len(semantics.All()) {
		t.Errorf("README.md lists %d rows that do not exist", len(documented)-len(semantics.All()))
	}
}

func TestPick(t *testing.T) {
	for text, want := range map[string]string{
		"mesh": "mesh", "plain,fast-path": "fast-path", "mesh,socket-bypass": "mesh socket-bypass", "plain": "", "other": "",
	} {
		picked, err := pick(strings.Split(text, ","))
		var names []string
		for _, m := range picked {
			names = append(names, m.name)
		}
		if got := strings.Join(names, " "); got != want || (err == nil) != (want != "") {
			t.Errorf("-mode=%s picks %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := pick(usual); err != nil {
		t.Error(err)
	}
}

func TestMarkdown(t *testing.T) {
	table := &table{
		Date: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), Kernel: "Linux 6.18", Command: command([]string{"semantics", "-short"}),
		Rows: 2, Conntrack: true,
		Sections: []*section{
			{Setting: "One node, IPv4",
				Plain: []semantics.Outcome{{Row: "one", Text: "a|b"}, {Row: "two", Text: "EOF"}},
				Modes: []*column{
					{Mode: "mesh", Connections: 2},
					{Mode: theDefault, Mechanism: "on", Connections: 3, Differences: []semantics.Difference{{Row: "two", Plain: "EOF", Other: "EAGAIN"}}},
				}},
			{Setting: "Two nodes, IPv4"}, // of which no mode was measured
		},
	}
	var out bytes.Buffer
	if err := table.writeMarkdown(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| date | 2026-01-02 03:04 UTC |\n", "`go run ./e2e/semantics -short`",
		"| One node, IPv4 | mesh |  | 0 | 2 |\n", "| One node, IPv4 | fast-path | on | 1 | 3 |\n",
		"| row | plain | mesh | fast-path |\n|---|---|---|---|\n| one | a\\|b | = | = |\n| two | EOF | = | EAGAIN |\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "Two nodes") {
		t.Errorf("a setting that was not measured is there:\n%s", &out)
	}
	if n := table.differing(theDefault); n != 1 {
		t.Errorf("%d rows of the default mode differ, want 1", n)
	}
}

// TestModesEqualPlain runs the short form over the built binaries: neither
// through the mesh nor over the fast path a row differs, and the connections did go
// through the mesh.
func TestModesEqualPlain(t *testing.T) {
	nettest.RequireBPF(t)
	t.Chdir("../..")
	o, err := parse([]string{"-short", "-mode=mesh," + theDefault})
	if err != nil {
		t.Fatal(err)
	}
	o.only = func(s setting) bool { return s.near != s.v6 } // one node and IPv4, two nodes and IPv6
	bin := t.TempDir()
	if err := build(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	table, err := measure(t.Context(), o, bin)
	if err != nil {
		t.Fatal(err)
	}
	measured := 0
	for _, s := range table.Sections {
		for _, c := range s.Modes {
			measured++
			if c.Mode == theDefault && c.Mechanism != "on" {
				t.Errorf("%s: the mechanism of the default mode is %s", s.Setting, c.Mechanism)
			}
			for _, d := range c.Differences {
				t.Errorf("%s, %s: %s", s.Setting, c.Mode, d)
			}
			if len(c.Outcomes) != len(semantics.Short()) {
				t.Errorf("%s, %s: %d outcomes of %d rows", s.Setting, c.Mode, len(c.Outcomes), len(semantics.Short()))
			}
		}
	}
	if measured != 4 {
		t.Errorf("%d columns were measured, want 4", measured)
	}
}

// The makers are this test's own binary.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == makeSockets {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestManifest has the labels of the mode on the
// enrolled pods alone, and every port of every service.
func TestManifest(t *testing.T) {
	text := string(manifest(mode{labels: "heddle.io/socket-bypass: enabled"}))
	if got, want := strings.Count(text, "socket-bypass: enabled"), len(pods); got != want {
		t.Errorf("%d pods have the label, want %d:\n%s", got, want, text)
	}
	if got, want := strings.Count(text, "port: "), len(services)*semantics.Ports; got != want {
		t.Errorf("%d service ports, want %d", got, want)
	}
}

// TestMakerMakesSockets over the channel, and reports what the kernel refuses.
func TestMakerMakesSockets(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- serveSockets(pair[1]) }()
	m := &maker{cmd: &sandbox.Cmd{}, fd: pair[0]}
	fd, err := m.socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_INET6 {
		t.Errorf("the socket's domain is %d, %v", domain, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the socket's flags are %#x, %v, want O_NONBLOCK", flags, err)
	}
	if _, err := m.socket(unix.AF_INET, unix.SOCK_STREAM, 250); err != unix.EPROTONOSUPPORT {
		t.Errorf("an unknown protocol: %v, want EPROTONOSUPPORT", err)
	}
	unix.Close(pair[0])
	if err := <-served; err != nil {
		t.Errorf("the maker ends with %v when nobody asks any more", err)
	}
	unix.Close(pair[1])
}
