package main

import (
	"strings"
	"testing"
)

// try runs a command line with nothing around it.
func try(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	a := &app{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }}
	code = a.run(t.Context(), args)
	return code, o.String(), e.String()
}

func TestExitCodes(t *testing.T) {
	none := "--socket=" + t.TempDir() + "/none"
	for _, tt := range []struct {
		line string
		code int
		want string // in what is printed
	}{
		{"version", 0, "heddlectl "},
		{"version -o json", 0, `"go": "go`},
		{"version -o yaml", 0, "platform: linux/"},
		{"completion bash", 0, "heddlectl"},
		{"nonsense", exitUsage, `unknown command "nonsense"`},
		{"version extra", exitUsage, "unknown command"},
		{"version --bad", exitUsage, "unknown flag"},
		{"version -o xml", exitUsage, "use table, json or yaml"},
		{"get", exitUsage, "routes, endpoints, pods or maps"},
		{"describe", exitUsage, "service NAME or pod NAME or route NAME"},
		{"describe pod a/b/c", exitUsage, "NAMESPACE/NAME"},
		{"why shop/client", exitUsage, "accepts 2 arg"},
		{"sandbox up -f x --example canary", exitUsage, "not both"},
		{"sandbox up --example none", exitProblem, "no example"},
		{"sandbox ps --sandbox heddle-test-none", exitUnreachable, "is not up"},
		{"sandbox exec --sandbox heddle-test-none a/b -- true", exitUnreachable, "is not up"},
		{"sandbox ps --sandbox a-pod-b", exitUsage, "sandbox name"},
		{"sandbox apply", exitUsage, "give -f FILE"},
		{"sandbox delete", exitUsage, "give -f FILE"},
		{"status " + none, exitUnreachable, "cannot reach the agent"},
		{"get routes " + none, exitUnreachable, "cannot reach the agent"},
		{"why a/b c:1 " + none, exitUnreachable, "cannot reach the agent"},
		{"status --sandbox heddle-test-none", exitUnreachable, "is not up"},
		{"top", exitUsage, "pods or services"},
		{"top pods --sort weight", exitUsage, "bytes, dropped, name, packets"},
		{"top services --interval 1ms", exitUsage, "100ms to 1m"},
		{"top pods --once " + none, exitUnreachable, "cannot reach the agent"},
		{"echo", exitUsage, "give --http"},
		{"load --target nowhere", exitUsage, "target"},
		{"load --target 127.0.0.1:1 --rate 0", exitUsage, "rate"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			code, out, errs := try(t, strings.Fields(tt.line)...)
			if code != tt.code || !strings.Contains(out+errs, tt.want) {
				t.Errorf("code %d, want %d; output, which should contain %q:\n%s%s", code, tt.code, tt.want, out, errs)
			}
		})
	}
}

func TestHelpIsShort(t *testing.T) {
	code, out, _ := try(t, "--help")
	if code != 0 || strings.Contains(out, "echo") && strings.Contains(out, "Answer HTTP") {
		t.Errorf("code %d; what only pods run must be hidden:\n%s", code, out)
	}
}
