package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLoadCounts(t *testing.T) {
	n := make(chan int, 1)
	n <- 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i := <-n
		n <- i + 1
		if i%10 == 9 {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		io.WriteString(w, "a\nmore\n")
	}))
	defer srv.Close()
	o := loadOrder{Target: srv.Listener.Addr().String(), Rate: 1000, Seconds: 0.1, Workers: 1}
	r, err := o.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answers := 0
	for _, s := range r.Steps {
		answers += s.Answers["a"]
	}
	if r.Requests != 90 || r.Failed != 10 || r.Failures["bad answer"] != 10 || answers != 90 || r.P50 <= 0 || r.P99 < r.P50 {
		t.Errorf("got %+v", r)
	}
}

func TestLoadNamesFailures(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	o := loadOrder{Target: addr, Rate: 100, Seconds: 0.02}
	r, err := o.run(t.Context())
	if err != nil || r.Failures["ECONNREFUSED"] != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestOrders: one line, one answer; "stop" ends a run early.
func TestOrders(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a\n") }))
	defer srv.Close()
	in, orders := io.Pipe()
	answers, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveOrders(t.Context(), in, out) }()
	lines := bufio.NewScanner(answers)
	for _, order := range []string{`{"target": "ADDR", "rate": 200, "seconds": 0.05}` + "\n", `{"target": "ADDR", "rate": 100, "seconds": 600}` + "\nstop\n"} {
		go io.WriteString(orders, strings.ReplaceAll(order, "ADDR", srv.Listener.Addr().String()))
		if !lines.Scan() {
			t.Fatal("no answer")
		}
		var r loadResult
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.Failed > 0 {
			t.Fatalf("answer %s: %v", lines.Text(), err)
		}
	}
	orders.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
