package kube

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/rest"
)

// Channels of the protocol of pods/exec.
const (
	stdin  = 0
	stdout = 1
	stderr = 2
	status = 3
)

// session is the far end of a command.
type session struct{ *websocket.Conn }

func (s session) say(channel byte, text string) {
	_ = s.WriteMessage(websocket.BinaryMessage, append([]byte{channel}, text...))
}

// hear reads what comes on standard input, and false at its end.
func (s session) hear() (string, bool) {
	for {
		_, message, err := s.ReadMessage()
		if err != nil {
			return "", false
		}
		if len(message) > 1 && message[0] == stdin {
			return string(message[1:]), true
		}
	}
}

// execServer answers pods/exec by a command in the test.
func execServer(t *testing.T, command func(*http.Request, session)) *rest.Config {
	t.Helper()
	upgrade := websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrade.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		command(r, session{c})
		_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
		_, _ = session{c}.hear() // until the other side has closed too
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL}
}

func dial(t *testing.T, config *rest.Config) net.Conn {
	t.Helper()
	c, err := Dial(t.Context(), config, "heddle-system", "agent-1", "agent", []string{"/heddled", "admin"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestDialSpeaksHTTP(t *testing.T) {
	config := execServer(t, func(r *http.Request, s session) {
		if r.URL.Path != "/api/v1/namespaces/heddle-system/pods/agent-1/exec" || fmt.Sprint(r.URL.Query()["command"]) != "[/heddled admin]" || r.URL.Query().Get("container") != "agent" {
			t.Errorf("asked for %s", r.URL)
		}
		var got bytes.Buffer
		for !strings.Contains(got.String(), "\r\n\r\n") {
			text, ok := s.hear()
			if !ok {
				t.Errorf("the input ended after %q", got.String())
				return
			}
			got.WriteString(text)
		}
		s.say(stdout, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
		s.say(stdout, "hello")
		s.say(status, `{"status": "Success"}`)
	})
	c := dial(t, config)
	req := httptest.NewRequest(http.MethodGet, "http://admin/v1/status", nil)
	if err := req.Write(c); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
		t.Errorf("got %q, %v", body, err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %d, %v", n, err)
	}
}

func TestDialTellsWhatTheCommandSays(t *testing.T) {
	config := execServer(t, func(_ *http.Request, s session) {
		s.say(stderr, "heddled: connect to the admin socket:\nno such file\n")
		s.say(status, `{"status": "Failure", "reason": "NonZeroExitCode", "message": "exit 1", "details": {"causes": [{"reason": "ExitCode", "message": "1"}]}}`)
	})
	_, err := dial(t, config).Read(make([]byte, 1))
	if err == nil || err.Error() != "/heddled admin: heddled: connect to the admin socket: no such file" {
		t.Errorf("got %v", err)
	}
}

func TestDialTellsWhoMayNot(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "pods \"agent-1\" is forbidden: User \"u\" cannot create resource \"pods/exec\""}`)
	}))
	t.Cleanup(server.Close)
	_, err := dial(t, &rest.Config{Host: server.URL}).Read(make([]byte, 1))
	var denied *Denied
	if !errors.As(err, &denied) || !strings.Contains(err.Error(), "create pods/exec in namespace heddle-system") {
		t.Errorf("got %v", err)
	}
}

func TestDialHonoursDeadlinesAndClose(t *testing.T) {
	ended := make(chan bool, 1)
	config := execServer(t, func(_ *http.Request, s session) {
		_, open := s.hear() // says nothing, until the caller leaves
		ended <- !open
	})
	c := dial(t, config)
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read beyond the deadline: %v", err)
	}
	c.Close()
	if !<-ended {
		t.Error("the command read something, want the end of its input")
	}
}
