package plane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"heddle.io/heddle/api/admin"
)

// Bounds of the admin socket.
const (
	adminConnections = 64
	adminTimeout     = 30 * time.Second
	adminHeader      = 16 << 10
)

// serveAdmin answers on the admin socket until ctx ends.
func (p *Plane) serveAdmin(ctx context.Context) error {
	server := &http.Server{
		Handler:           p.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       adminTimeout,
		WriteTimeout:      adminTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    adminHeader,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() {
		// Not that of ctx, which is over.
		finish, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if server.Shutdown(finish) != nil {
			server.Close()
		}
	})
	defer stop()
	if err := server.Serve(limit(p.admin, adminConnections)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (p *Plane) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/status", get(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, p.status())
	})))
	mux.Handle("/v1/ready", get(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := p.ready(); err != nil {
			fail(w, http.StatusServiceUnavailable, err)
			return
		}
		reply(w, http.StatusOK, struct{}{})
	})))
	mux.Handle("/metrics", get(promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 2, Timeout: adminTimeout,
	})))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, fmt.Errorf("no such path %q", r.URL.Path))
	})
	return mux
}

func get(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			fail(w, http.StatusMethodNotAllowed, fmt.Errorf("%s is not possible on %q", r.Method, r.URL.Path))
			return
		}
		h.ServeHTTP(w, r)
	})
}

func fail(w http.ResponseWriter, code int, err error) {
	reply(w, code, admin.Error{Error: err.Error()})
}

func reply(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // who asked may be gone
}
