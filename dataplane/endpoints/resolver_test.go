package endpoints

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
)

const list = `{"items": [
	{"ports": [{"name": "xds", "port": 15010}, {"name": "other", "port": 80}], "endpoints": [
		{"addresses": ["10.0.0.2"], "conditions": {"ready": true}},
		{"addresses": ["10.0.0.1"]},
		{"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
		{"addresses": []}]},
	{"ports": [{"name": "xds", "port": 15010}], "endpoints": [
		{"addresses": ["fd00::1"], "conditions": {}},
		{"addresses": ["10.0.0.1"]}]},
	{"ports": [{"name": "xds"}], "endpoints": [{"addresses": ["10.0.0.9"]}]},
	{}]}`

func TestAddresses(t *testing.T) {
	for port, want := range map[string]string{
		"xds":   "10.0.0.1:15010 10.0.0.2:15010 [fd00::1]:15010",
		"15010": "10.0.0.1:15010 10.0.0.2:15010 [fd00::1]:15010",
		"other": "10.0.0.1:80 10.0.0.2:80",
		"none":  "",
	} {
		if got, err := addresses([]byte(list), port); err != nil || strings.Join(got, " ") != want {
			t.Errorf("port %s: %q, %v; want %q", port, got, err, want)
		}
	}
	if _, err := addresses([]byte("<html>"), "xds"); err == nil {
		t.Error("HTML was taken for a list")
	}
}

func FuzzAddresses(f *testing.F) {
	f.Add([]byte(list), "xds")
	f.Fuzz(func(t *testing.T, body []byte, port string) {
		if out, err := addresses(body, port); err == nil && (len(out) > maxAddresses || !slices.IsSorted(out)) {
			t.Errorf("%d addresses", len(out))
		}
	})
}

// conn is a ClientConn that keeps what it is told.
type conn struct {
	states chan resolver.State
	errors chan error
}

func (c conn) UpdateState(s resolver.State) error                   { c.states <- s; return nil }
func (c conn) ReportError(err error)                                { c.errors <- err }
func (c conn) NewAddress([]resolver.Address)                        {}
func (c conn) ParseServiceConfig(string) *serviceconfig.ParseResult { return nil }

func TestResolver(t *testing.T) {
	var code, tokens atomic.Int32
	code.Store(http.StatusForbidden)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("labelSelector"); got != "kubernetes.io/service-name=ctl" || !strings.Contains(r.URL.Path, "/namespaces/sys/") {
			t.Errorf("asked for %s", r.URL)
		}
		if got := r.Header.Get("Authorization"); got != fmt.Sprintf("Bearer %d", tokens.Load()) {
			t.Errorf("authorization %q", got)
		}
		w.WriteHeader(int(code.Load()))
		_, _ = w.Write([]byte(list))
	}))
	defer api.Close()
	b := Builder{API{URL: api.URL, Client: api.Client(), Token: func() (string, error) { return fmt.Sprint(tokens.Add(1)), nil }}}
	c := conn{make(chan resolver.State, 16), make(chan error, 16)}
	target := resolver.Target{}
	target.URL.Scheme, target.URL.Path = "endpoints", "/sys/ctl:xds"
	r, err := b.Build(target, c, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wait := time.After(20 * time.Second)
	select {
	case err := <-c.errors:
		if !strings.Contains(err.Error(), "Role") {
			t.Errorf("refused: %v; it should say which right is missing", err)
		}
	case <-wait:
		t.Fatal("no error although the API server refuses")
	}
	code.Store(http.StatusOK)
	select {
	case s := <-c.states:
		if len(s.Endpoints) != 3 {
			t.Errorf("%d endpoints, want 3", len(s.Endpoints))
		}
	case <-wait:
		t.Fatal("no addresses although the API server answers again")
	}
}
