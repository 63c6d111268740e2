package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	api "heddle.io/heddle/api/admin"
)

// Bounds of a request.
const (
	maxBody       = 1 << 20
	maxHeader     = 16 << 10
	maxQuestions  = 16  // that run at once
	maxWaiting    = 200 // announcements that wait at once
	maxDumped     = 10_000
	answerTimeout = 30 * time.Second
	// MaxAnnounce is the longest that an announcement may wait.
	MaxAnnounce = 5 * time.Minute
)

// Server answers on the admin socket.
type Server struct {
	node   Node
	tables Tables
	http   *http.Server
	asking chan struct{} // slots of questions
	placed chan struct{} // slots of announcements
}

// NewServer returns a server for a node.
func NewServer(n Node, t Tables, m *Metrics, log *slog.Logger) *Server {
	s := &Server{
		node: n, tables: t,
		asking: make(chan struct{}, maxQuestions),
		placed: make(chan struct{}, maxWaiting),
	}
	registry := prometheus.NewRegistry()
	m.register(registry, n, t)

	mux := http.NewServeMux()
	get := func(path string, answer func(*http.Request) (any, error)) {
		mux.Handle(path, s.only(http.MethodGet, s.bounded(s.asking, answerTimeout, answer)))
	}
	get("/v1/status", func(*http.Request) (any, error) { return Status(n.Status(), n.View(), t) })
	get("/v1/services", func(*http.Request) (any, error) { return Services(n.View(), t) })
	get("/v1/clusters", func(*http.Request) (any, error) { return Clusters(n.View(), t) })
	get("/v1/maps", func(*http.Request) (any, error) { return t.Usage() })
	get("/v1/maps/{name}", s.dump)
	mux.Handle("/v1/why", s.only(http.MethodPost, s.bounded(s.asking, answerTimeout, s.why)))
	mux.Handle("/v1/pods", byMethod{
		http.MethodGet: s.bounded(s.asking, answerTimeout, func(*http.Request) (any, error) { return Pods(n.Pods(), t) }),
		http.MethodPut: s.bounded(s.placed, MaxAnnounce+answerTimeout, s.announce),
	})
	mux.Handle("/v1/pods/{namespace}/{name}", s.only(http.MethodDelete, s.bounded(s.placed, answerTimeout, s.forget)))
	mux.Handle("/metrics", s.only(http.MethodGet, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 2, Timeout: answerTimeout, ErrorHandling: promhttp.ContinueOnError,
	})))
	s.serve(mux, mux, log)
	return s
}

// NewEnrolment returns a server for the CNI plugin: it announces and removes
// pods and does nothing else, for root outside of every pod alone.
func NewEnrolment(n Node, m *Metrics, log *slog.Logger) *Server {
	s := &Server{node: n, placed: make(chan struct{}, maxWaiting)}
	mux := http.NewServeMux()
	mux.Handle("/v1/pods", s.only(http.MethodPut, s.bounded(s.placed, MaxAnnounce+answerTimeout, s.announce)))
	mux.Handle("/v1/pods/{namespace}/{name}", s.only(http.MethodDelete, s.bounded(s.placed, answerTimeout, s.forget)))
	refused := func(err error) { log.Warn("a stranger was refused on the CNI socket", "reason", err) }
	s.serve(known(m, refused, mux), mux, log)
	s.http.ConnContext = withPeer
	return s
}

// serve makes the server of a handler; mux is where its paths are.
func (s *Server) serve(h http.Handler, mux *http.ServeMux, log *slog.Logger) {
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, fmt.Errorf("no such path %q", r.URL.Path))
	})
	s.http = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       answerTimeout,
		WriteTimeout:      2 * answerTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Serve answers on l until ctx ends. Requests that wait are cut off then.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("socket %s: %w", l.Addr(), err)
	}
	return nil
}

// byMethod dispatches by HTTP method.
type byMethod map[string]http.Handler

func (m byMethod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := m[r.Method]; ok {
		h.ServeHTTP(w, r)
		return
	}
	fail(w, http.StatusMethodNotAllowed, fmt.Errorf("%s is not possible on %q", r.Method, r.URL.Path))
}

func (s *Server) only(method string, h http.Handler) http.Handler { return byMethod{method: h} }

// bounded runs answer in one of slots and within a time, and writes what it
// returns.
func (s *Server) bounded(slots chan struct{}, limit time.Duration, answer func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, fmt.Errorf("%d requests are running already; try again", cap(slots)))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		// The server's own deadlines are too short for an announcement; the one
		// for reading would end the request's context while it waits.
		control, deadline := http.NewResponseController(w), time.Now().Add(limit)
		_ = control.SetReadDeadline(deadline)
		_ = control.SetWriteDeadline(deadline)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		body, err := answer(r.WithContext(ctx))
		if err != nil {
			fail(w, statusOf(err), err)
			return
		}
		reply(w, http.StatusOK, body)
	})
}

// Failure is an error with the HTTP status that tells it best.
type Failure struct {
	Status int
	Err    error
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

func statusOf(err error) int {
	var f *Failure
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		return f.Status
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errQuestion):
		return http.StatusBadRequest
	case errors.Is(err, errUnknownPod):
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

func fail(w http.ResponseWriter, status int, err error) {
	reply(w, status, api.Error{Error: err.Error()})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body) // the client is gone; nobody to tell
}

// read parses a request's body, which must be one JSON object and no more.
func read(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return err
		}
		return &Failure{http.StatusBadRequest, fmt.Errorf("request body: %w", err)}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return &Failure{http.StatusBadRequest, errors.New("request body: more than one JSON value")}
	}
	return nil
}

func (s *Server) dump(r *http.Request) (any, error) {
	name := r.PathValue("name")
	maps, err := s.tables.Usage()
	if err != nil {
		return nil, err
	}
	for _, m := range maps {
		if m.Name == name {
			if m.Entries < 0 {
				return nil, &Failure{http.StatusBadRequest, fmt.Errorf("map %s is stored with the sockets and cannot be listed", name)}
			}
			var names func(uint64) string
			if v := s.node.View(); v != nil {
				names = v.Index.Name
			}
			return s.tables.Dump(name, maxDumped, names)
		}
	}
	return nil, &Failure{http.StatusNotFound, fmt.Errorf("no map %q; GET /v1/maps lists them", name)}
}

func (s *Server) why(r *http.Request) (any, error) {
	var q api.WhyRequest
	if err := read(r, &q); err != nil {
		return nil, err
	}
	return Why(s.node, s.tables, q)
}

func (s *Server) announce(r *http.Request) (any, error) {
	var p api.PodRequest
	if err := read(r, &p); err != nil {
		return nil, err
	}
	return s.node.Announce(r.Context(), p)
}

func (s *Server) forget(r *http.Request) (any, error) {
	namespace, name, query := r.PathValue("namespace"), r.PathValue("name"), r.URL.Query()
	found, err := s.node.Forget(r.Context(), api.PodRequest{
		Namespace: namespace, Name: name, UID: query.Get("uid"), Netns: query.Get("netns"),
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%w: %q", errUnknownPod, namespace+"/"+name)
	}
	return struct{}{}, nil
}
