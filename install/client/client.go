package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"heddle.io/heddle/api/admin"
)

// An answer larger than this is not one of ours: a full map dump stays below.
const maxAnswer = 64 << 20

// callTimeout bounds every question but the announcement of a pod, which may
// wait for the control plane.
const callTimeout = 10 * time.Second

// A Dialer connects to an admin socket, wherever it is.
type Dialer func(ctx context.Context) (net.Conn, error)

// Unreachable says that nobody answers on a socket.
type Unreachable struct {
	Who   string // "the agent", "the controller"
	Where string // path of the socket, or what the dialer was said to reach
	Err   error
}

func (e *Unreachable) Error() string {
	what := fmt.Sprintf("cannot reach %s on %s: %v", e.Who, e.Where, cause(e.Err))
	var advised interface{ Advice() string }
	switch {
	case errors.As(e.Err, &advised): // says it itself
		return what
	case errors.Is(e.Err, fs.ErrPermission):
		return what + ": run this as root, the socket belongs to root alone"
	case errors.Is(e.Err, fs.ErrNotExist):
		return what + ": start it, or name its socket (heddlectl --help)"
	}
	return what + ": see its log"
}

func (e *Unreachable) Unwrap() error { return e.Err }

// cause cuts the addresses and the operation off, which Unreachable names
// itself.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Refused is an answer with an error in it.
type Refused struct {
	Status int // HTTP status code
	Reason string
}

func (e *Refused) Error() string { return e.Reason }

// Agent is the admin socket of one node. It may be used concurrently.
type Agent struct{ endpoint }

// NewAgent returns a client of the agent's socket; it connects at each call.
func NewAgent(socket string) *Agent { return &Agent{open("the agent", socket)} }

// AgentOver returns a client of an agent that is reached by dial; where names
// it in errors.
func AgentOver(where string, dial Dialer) *Agent { return &Agent{over("the agent", where, dial)} }

// Status is what the agent says of itself and of its feed and tables.
func (a *Agent) Status(ctx context.Context) (*admin.AgentStatus, error) {
	return get[*admin.AgentStatus](ctx, &a.endpoint, "/v1/status")
}

// Services are the service ports that the node's kernel has.
func (a *Agent) Services(ctx context.Context) ([]admin.Service, error) {
	return get[[]admin.Service](ctx, &a.endpoint, "/v1/services")
}

// Clusters are the endpoint sets that the node knows.
func (a *Agent) Clusters(ctx context.Context) ([]admin.Cluster, error) {
	return get[[]admin.Cluster](ctx, &a.endpoint, "/v1/clusters")
}

// Pods are those announced to the agent.
func (a *Agent) Pods(ctx context.Context) ([]admin.Pod, error) {
	return get[[]admin.Pod](ctx, &a.endpoint, "/v1/pods")
}

// Maps are the node's kernel maps and how full they are.
func (a *Agent) Maps(ctx context.Context) ([]admin.Map, error) {
	return get[[]admin.Map](ctx, &a.endpoint, "/v1/maps")
}

// Dump is the contents of one map.
func (a *Agent) Dump(ctx context.Context, name string) (*admin.MapDump, error) {
	return get[*admin.MapDump](ctx, &a.endpoint, "/v1/maps/"+url.PathEscape(name))
}

// Why asks what the kernel would do with a connection.
func (a *Agent) Why(ctx context.Context, q admin.WhyRequest) (*admin.Why, error) {
	return call[*admin.Why](ctx, &a.endpoint, http.MethodPost, "/v1/why", q, callTimeout)
}

// Announce tells the agent of a pod before its first process starts. It
// returns when the agent knows whether the pod is in the mesh and, if so,
// captures it.
func (a *Agent) Announce(ctx context.Context, p admin.PodRequest) (*admin.Pod, error) {
	wait := time.Duration(p.TimeoutSeconds * float64(time.Second))
	if wait == 0 {
		wait = 10 * time.Second // the agent's own default
	}
	return call[*admin.Pod](ctx, &a.endpoint, http.MethodPut, "/v1/pods", p, wait+callTimeout)
}

// Forget tells the agent that a pod is gone. A pod that the agent does not
// know is not an error.
func (a *Agent) Forget(ctx context.Context, namespace, name string) error {
	path := "/v1/pods/" + url.PathEscape(namespace) + "/" + url.PathEscape(name)
	err := a.do(ctx, http.MethodDelete, path, nil, nil, callTimeout)
	var refused *Refused
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return nil
	}
	return err
}

// Metrics is the agent's counters as Prometheus reads them.
func (a *Agent) Metrics(ctx context.Context) (string, error) { return a.text(ctx, "/metrics") }

// Controller is the admin socket of the controller. It may be used
// concurrently.
type Controller struct{ endpoint }

// NewController returns a client of the controller's socket; it connects at
// each call.
func NewController(socket string) *Controller {
	return &Controller{open("the controller", socket)}
}

// ControllerOver returns a client of a controller that is reached by dial;
// where names it in errors.
func ControllerOver(where string, dial Dialer) *Controller {
	return &Controller{over("the controller", where, dial)}
}

// Metrics is the controller's counters as Prometheus reads them.
func (c *Controller) Metrics(ctx context.Context) (string, error) { return c.text(ctx, "/metrics") }

// Status is what the controller says of its source, problems and nodes.
func (c *Controller) Status(ctx context.Context) (*admin.ControllerStatus, error) {
	return get[*admin.ControllerStatus](ctx, &c.endpoint, "/v1/status")
}

type endpoint struct {
	who   string
	where string
	http  *http.Client
}

func open(who, socket string) endpoint {
	socket = strings.TrimPrefix(socket, "unix://")
	return over(who, socket, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	})
}

func over(who, where string, dial Dialer) endpoint {
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	// No kept connections: a client lives for one command, and a server that
	// restarts between two questions must not fail the second.
	return endpoint{who, where, &http.Client{Transport: &http.Transport{DialContext: connect, DisableKeepAlives: true}}}
}

// Where is the path of the socket, or what the dialer was said to reach.
func (e *endpoint) Where() string { return e.where }

func get[T any](ctx context.Context, e *endpoint, path string) (T, error) {
	return call[T](ctx, e, http.MethodGet, path, nil, callTimeout)
}

func call[T any](ctx context.Context, e *endpoint, method, path string, in any, timeout time.Duration) (T, error) {
	var out T
	err := e.do(ctx, method, path, in, &out, timeout)
	return out, err
}

// text asks for something that is not JSON.
func (e *endpoint) text(ctx context.Context, path string) (string, error) {
	body, err := e.ask(ctx, http.MethodGet, path, nil, callTimeout)
	return string(body), err
}

func (e *endpoint) do(ctx context.Context, method, path string, in, out any, timeout time.Duration) error {
	text, err := e.ask(ctx, method, path, in, timeout)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the answer of %s to %s is not understood (is it the same version?): %w", e.who, path, err)
	}
	return nil
}

func (e *endpoint) ask(ctx context.Context, method, path string, in any, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode the question to %s: %w", e.who, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", e.who, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, &Unreachable{e.who, e.where, unwrapURL(err)}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &Unreachable{e.who, e.where, err}
	}
	if resp.StatusCode >= 400 {
		return nil, refusal(resp, text)
	}
	return text, nil
}

func refusal(resp *http.Response, text []byte) error {
	var body admin.Error
	if json.Unmarshal(text, &body) != nil || body.Error == "" {
		body.Error = fmt.Sprintf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return &Refused{resp.StatusCode, body.Error}
}

func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
