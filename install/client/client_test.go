package client

import (
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"heddle.io/heddle/api/admin"
)

// serve answers on a unix socket of the test with a handler.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return path
}

func TestNobodyOnTheSocket(t *testing.T) {
	_, err := NewAgent(filepath.Join(t.TempDir(), "none")).Status(t.Context())
	var gone *Unreachable
	if !errors.As(err, &gone) {
		t.Fatalf("got %v, want an Unreachable", err)
	}
}

func TestErrorsOfTheServer(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/why", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		w.Write([]byte(`{"error":"no pod shop/x on this node"}`))
	})
	mux.HandleFunc("DELETE /v1/pods/{ns}/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("ns") != "shop" || r.PathValue("name") != "x" {
			t.Errorf("path %s", r.URL)
		}
		w.WriteHeader(http.StatusNotFound)
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("hello"))
	})
	a := NewAgent("unix://" + serve(t, mux))

	_, err := a.Why(t.Context(), admin.WhyRequest{})
	var refused *Refused
	if !errors.As(err, &refused) || refused.Reason != "no pod shop/x on this node" || refused.Status != 404 {
		t.Errorf("why: got %v", err)
	}
	if err := a.Forget(t.Context(), "shop", "x"); err != nil {
		t.Errorf("forgetting a pod that is unknown: %v", err)
	}
	if _, err := a.Status(t.Context()); err == nil {
		t.Errorf("a body that is not JSON was accepted")
	}
	_, err = a.Maps(t.Context())
	if !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("a path the server does not have: got %v", err)
	}
}
