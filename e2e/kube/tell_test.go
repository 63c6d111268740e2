package kube

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
)

// A test is one of Go's whose complaints are told once more after everything else:
// what follows a failure is long, and some see only the end of it.
type test struct{ *testing.T }

func (t test) Errorf(format string, args ...any) {
	t.Helper()
	t.note(fmt.Sprintf(format, args...))
	t.T.Errorf(format, args...)
}

func (t test) Fatalf(format string, args ...any) {
	t.Helper()
	t.note(fmt.Sprintf(format, args...))
	t.T.Fatalf(format, args...)
}

// complaints are those of all tests, in the order in which they came.
var complaints struct {
	sync.Mutex
	texts []string
}

func (t test) note(complaint string) {
	complaints.Lock()
	defer complaints.Unlock()
	complaints.texts = append(complaints.texts, t.Name()+": "+strings.TrimSpace(head(complaint, 2000)))
}

// tellAgain writes every complaint, those first that came first.
func tellAgain(w io.Writer) {
	complaints.Lock()
	defer complaints.Unlock()
	if len(complaints.texts) == 0 {
		return
	}
	fmt.Fprintf(w, "\nwhat failed, once more:\n")
	for _, text := range complaints.texts {
		fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(text, "\n", "\n    "))
	}
}

// head and tail are the ends of a text that may be long.
func head(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n] + "…"
}

func tail(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return "…" + text[len(text)-n:]
}

// showState says in short what can be known of a mesh after a failure.
func (m *mesh) showState() {
	logs := func(component string) []string {
		return []string{"logs", "-n", system, "-l", "app.kubernetes.io/component=" + component, "--tail=12", "--prefix"}
	}
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "tcproutes.gateway.networking.k8s.io", "-A", "-o", `jsonpath={range .items[*]}{.metadata.name}{" "}{.metadata.generation}{" "}{.status}{"\n"}{end}`},
		{"get", "events", "-A", "--field-selector=type!=Normal", "--sort-by=.lastTimestamp"},
		logs("controller"), logs("agent"),
	} {
		out, err := m.try(args...)
		m.t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, tail(out, 3000))
	}
	out, err := m.ctl("status")
	m.t.Logf("heddlectl status: %v\n%s", err, head(out, 3000))
}
