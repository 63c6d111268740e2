package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
)

// maxStderr bounds what is kept of a command's messages.
const maxStderr = 4 << 10

// Dial starts a command in a container of a pod and returns its standard input
// and output as a connection. An empty container is the pod's default one.
//
// Dial does not wait for the command: what keeps it from starting, and what it
// writes to its standard error, is the error of the first Read. The connection
// outlives ctx. It ends with the command or with Close; deadlines are honoured.
func Dial(ctx context.Context, config *rest.Config, namespace, pod, container string, command []string) (net.Conn, error) {
	executor, err := newExecutor(config, namespace, pod, container, command)
	if err != nil {
		return nil, fmt.Errorf("start %s in pod %s/%s: %w", command[0], namespace, pod, err)
	}
	ours, theirs := net.Pipe()
	// The library logs the end of a stream as an error; ours is c.err.
	ctx = klog.NewContext(context.WithoutCancel(ctx), logr.Discard())
	ctx, cancel := context.WithCancel(ctx)
	c := &execConn{Conn: ours, namespace: namespace, pod: pod, command: strings.Join(command, " "), cancel: cancel, ended: make(chan struct{})}
	go func() {
		// Close of theirs comes last: who reads an end finds its reason.
		defer theirs.Close()
		defer close(c.ended)
		c.err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: theirs, Stdout: theirs, Stderr: &c.stderr})
	}()
	return c, nil
}

// newExecutor prefers WebSockets and falls back to SPDY, which old API servers
// and some proxies in front of them need. SPDY also brings the API server's own
// words when it refuses.
func newExecutor(config *rest.Config, namespace, pod, container string, command []string) (remotecommand.Executor, error) {
	config = rest.CopyConfig(config)
	config.Timeout = 0 // of the whole stream, here
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	query := url.Values{"command": command, "stdin": {"true"}, "stdout": {"true"}, "stderr": {"true"}}
	if container != "" {
		query.Set("container", container)
	}
	target := base.JoinPath("api/v1/namespaces", namespace, "pods", pod, "exec")
	target.RawQuery = query.Encode()
	socket, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, target.String())
	if err != nil {
		return nil, err
	}
	spdy, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, target)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(socket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

// execConn is the connection of a command. It may be used concurrently.
type execConn struct {
	net.Conn
	namespace, pod, command string
	cancel                  context.CancelFunc
	stderr                  firstWords
	ended                   chan struct{} // the command is over: err stands
	err                     error
}

func (c *execConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) && n == 0 {
		<-c.ended
		if told := c.failure(); told != nil {
			return 0, told
		}
	}
	return n, err
}

func (c *execConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, io.ErrClosedPipe) {
		select {
		case <-c.ended:
			if told := c.failure(); told != nil {
				err = told
			}
		default: // closed on our side
		}
	}
	return n, err
}

// Close ends the command, if it has not ended.
func (c *execConn) Close() error {
	c.cancel()
	return c.Conn.Close()
}

func (c *execConn) RemoteAddr() net.Addr { return addr(c.namespace + "/" + c.pod) }

// failure says why the command did not do its work.
func (c *execConn) failure() error {
	if c.err == nil {
		return nil
	}
	// A refused upgrade has the API server's words only.
	forbidden := strings.Contains(c.err.Error(), " is forbidden: ")
	if forbidden || apierrors.IsForbidden(c.err) || apierrors.IsUnauthorized(c.err) {
		return denied(c.err, "create", "pods/exec", c.namespace)
	}
	if text := c.stderr.String(); text != "" {
		return fmt.Errorf("%s: %s", c.command, text)
	}
	return fmt.Errorf("%s: %w", c.command, c.err)
}

type addr string

func (a addr) Network() string { return "exec" }
func (a addr) String() string  { return string(a) }

// firstWords keeps the first bytes that were written, on one line.
type firstWords struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *firstWords) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p[:min(len(p), maxStderr-t.buf.Len())])
	return len(p), nil
}

func (t *firstWords) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(t.buf.String()), " ")
}
