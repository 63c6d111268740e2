package tree

import (
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"heddle.io/heddle/install/sandbox"
)

// section returns the text below a heading, up to the next of the same level.
func section(t *testing.T, doc, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, doc), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q: put it back, or correct e2e/tree/docs_test.go", doc, heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// firstColumn returns what stands in backquotes in the first cell of each row.
func firstColumn(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			names = append(names, quoted(cells[1])...)
		}
	}
	return names
}

var backquoted = regexp.MustCompile("`([^`]+)`")

func quoted(text string) []string {
	var all []string
	for _, m := range backquoted.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// same fails for names that the document or the code has alone.
func same(t *testing.T, where string, documented, inCode []string) {
	t.Helper()
	for _, name := range documented {
		if !slices.Contains(inCode, name) {
			t.Errorf("%s lists %s, which the code does not have: correct the list", where, name)
		}
	}
	for _, name := range inCode {
		if !slices.Contains(documented, name) {
			t.Errorf("%s does not list %s: add it, with what it means to the reader", where, name)
		}
	}
}

func TestReadmeMapOfTheTree(t *testing.T) {
	listed := firstColumn(section(t, "README.md", "Map of the tree"))
	for _, dir := range listed {
		if _, err := os.Stat(filepath.Join(root(), dir)); err != nil {
			t.Errorf("README.md, map of the tree: %s does not exist", dir)
		}
	}
	for _, p := range packages(t) {
		parent := func(dir string) bool { return matches(dir+"/...", p.path) }
		if !slices.ContainsFunc(listed, parent) {
			t.Errorf("README.md, map of the tree: package %s is not there; add a row of one line", p.path)
		}
	}
}

func TestReadmeReasons(t *testing.T) {
	var inCode []string
	for _, m := range regexp.MustCompile(`\bREASON_([A-Z_]+) = \d+`).FindAllStringSubmatch(read(t, "bpf/src/types.h"), -1) {
		if m[1] != "NONE" && m[1] != "MAX" {
			inCode = append(inCode, strings.ToLower(m[1]))
		}
	}
	same(t, "README.md, reasons,", firstColumn(section(t, "README.md", "Reasons")), inCode)
}

// TestReadmeProblems: what the README says of problems is about reasons that
// Heddle gives.
func TestReadmeProblems(t *testing.T) {
	given := literals(t, "controlplane/...", "dataplane/...")
	reasons := firstColumn(section(t, "README.md", "When something is wrong"))
	if len(reasons) == 0 {
		t.Error("README.md: the table of problems has no reasons")
	}
	for _, reason := range reasons {
		if !given[reason] {
			t.Errorf("README.md lists the problem %s, which no code reports: correct the table", reason)
		}
	}
}

// kernelNames returns the maps and programs of the C sources.
func kernelNames(t *testing.T) (maps, programs []string) {
	t.Helper()
	isMap := regexp.MustCompile(`(?m)^\} (hd_[a-z0-9_]+) SEC\("\.maps"\)`)
	isProgram := regexp.MustCompile(`(?m)^SEC\("[^"]+"\)\s+(?:static |__noinline )*int (hd_[a-z0-9_]+)\(`)
	for _, name := range tracked(t) {
		if ext := filepath.Ext(name); ext != ".c" && ext != ".h" {
			continue
		}
		src := read(t, name)
		for _, m := range isMap.FindAllStringSubmatch(src, -1) {
			maps = append(maps, m[1])
		}
		for _, m := range isProgram.FindAllStringSubmatch(src, -1) {
			programs = append(programs, m[1])
		}
	}
	if len(maps) == 0 || len(programs) == 0 {
		t.Fatalf("found %d maps and %d programs in the C sources: correct the expressions in e2e/tree/docs_test.go", len(maps), len(programs))
	}
	return maps, programs
}

func TestKernelNamesInDocs(t *testing.T) {
	inMaps, programs := kernelNames(t)
	known := slices.Concat(inMaps, programs)
	for _, doc := range markdown(t) {
		for _, name := range regexp.MustCompile(`\bhd_[a-z0-9_]+`).FindAllString(read(t, doc), -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s names %s, which is no map or program in bpf/src", doc, name)
			}
		}
	}
	// The maps that stay; those of a migration live in migrate.c.
	table, pinned := read(t, "bpf/README.md"), read(t, "bpf/src/maps.h")
	for _, name := range inMaps {
		if strings.Contains(pinned, "} "+name+" SEC") && !strings.Contains(table, "`"+name+"`") {
			t.Errorf("bpf/README.md does not list the map %s: add its key, its value and who writes it", name)
		}
	}
}

// literals returns the string literals of what ships, by value.
func literals(t *testing.T, scope ...string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, p := range packages(t) {
		if !anyMatch(scope, p.path) {
			continue
		}
		for _, f := range p.files {
			if f.test || f.generated {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						all[s] = true
					}
				}
				return true
			})
		}
	}
	return all
}

// TestMetricsInDocs: every metric is listed in some page, and no page lists one
// that is gone.
func TestMetricsInDocs(t *testing.T) {
	metric := regexp.MustCompile(`^heddle_[a-z0-9_]+$`)
	var inCode, documented []string
	for s := range literals(t, "dataplane/...", "controlplane/...") {
		if metric.MatchString(s) {
			inCode = append(inCode, s)
		}
	}
	for _, doc := range markdown(t) {
		for text := range strings.Lines(code(read(t, doc))) {
			text = strings.TrimSpace(text)
			if name, _, _ := strings.Cut(text, "{"); metric.MatchString(name) && name != "heddle_next" {
				documented = append(documented, name)
			}
		}
	}
	slices.Sort(inCode)
	same(t, "the documentation of metrics", documented, inCode)
}

func TestReadmeSocketsAndPaths(t *testing.T) {
	inCode := literals(t, "cmd/...", "install/...", "dataplane/...", "controlplane/...")
	box, err := sandbox.New(sandbox.Options{}) // its paths follow from its name
	if err != nil {
		t.Fatal(err)
	}
	inCode[box.Dir()] = true
	for line := range strings.Lines(section(t, "README.md", "Sockets and paths")) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, path := range quoted(cells[2]) {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(inCode)), func(s string) bool { return strings.Contains(s, path) }) {
				t.Errorf("README.md, sockets and paths: nothing in the code names %s", path)
			}
		}
	}
}

// flags returns the flags that the command line programs define: the first
// string of a call like fs.StringVar(&o.Node, "node", …) or fs.String("node", …).
func flags(t *testing.T, scope ...string) []string {
	t.Helper()
	define := regexp.MustCompile(`^(Bool|String|StringSlice|StringArray|Int|Uint|Uint16|Uint32|Uint64|Float64|Duration|Count)?(Var)?P?$`)
	var all []string
	for _, p := range packages(t) {
		if !anyMatch(scope, p.path) {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !define.MatchString(sel.Sel.Name) || len(call.Args) < 3 {
					return true
				}
				for _, arg := range call.Args[:2] {
					if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
						name, err := strconv.Unquote(lit.Value)
						if err == nil && name != "" {
							all = append(all, name)
						}
						break
					}
				}
				return true
			})
		}
	}
	return all
}

func TestFlagsInDocs(t *testing.T) {
	known := append(flags(t, "cmd/..."), "help", "version")
	for _, doc := range markdown(t) {
		for _, m := range regexp.MustCompile(`(?m)(?:^|[ =])--([a-z][a-z0-9-]*)`).FindAllStringSubmatch(code(read(t, doc)), -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s mentions --%s, which no program has", doc, m[1])
			}
		}
	}
}

// TestCommandsInReadme: what the first screen promises exists.
func TestCommandsInReadme(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, doc := range markdown(t) {
		for _, m := range regexp.MustCompile(`\bmake ([a-z]+)\b`).FindAllStringSubmatch(code(read(t, doc)), -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s says make %s, which the Makefile does not have", doc, m[1])
			}
		}
	}
}

// TestLinksInDocs: a link inside the repository leads somewhere.
func TestLinksInDocs(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	for _, doc := range markdown(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, doc), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root(), filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", doc, m[1])
			}
		}
	}
}

// TestPathsInContributing: "where do I change X" answers with a place.
func TestPathsInContributing(t *testing.T) {
	for line := range strings.Lines(section(t, "CONTRIBUTING.md", "Where do I change…")) {
		for _, name := range quoted(line) {
			if strings.Contains(name, " ") {
				continue // a command
			}
			if _, err := os.Stat(filepath.Join(root(), name)); err != nil {
				t.Errorf("CONTRIBUTING.md sends the reader to %s, which does not exist", name)
			}
		}
	}
}

// code returns what is in backquotes or fenced, which is where commands are: a
// line for each.
func code(text string) string {
	var b strings.Builder
	for i, part := range strings.Split(text, "```") {
		if i%2 == 1 {
			b.WriteString(part)
			continue
		}
		b.WriteString("\n" + strings.Join(quoted(part), "\n") + "\n")
	}
	return b.String()
}

func markdown(t *testing.T) []string {
	t.Helper()
	var docs []string
	for _, name := range tracked(t) {
		if filepath.Ext(name) == ".md" {
			docs = append(docs, name)
		}
	}
	return docs
}
