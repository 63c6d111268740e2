package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"heddle.io/heddle/api/admin"
)

// agent is the agent's CNI socket.
type agent struct {
	socket string
	client *http.Client
}

func newAgent(socket string) *agent {
	return &agent{socket, &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// refusal is an answer of the agent that is an error.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// undecided: the agent works, and could not decide in time.
func (r *refusal) undecided() bool {
	return r.status == http.StatusGatewayTimeout || r.status == http.StatusServiceUnavailable
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

func (a *agent) do(ctx context.Context, method, path string, body any) error {
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, sent)
	if err != nil {
		return err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("agent at %s: %w", a.socket, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("answer of the agent at %s: %w", a.socket, err)
	}
	if response.StatusCode < http.StatusBadRequest {
		return nil
	}
	var e admin.Error
	if json.Unmarshal(answer, &e) != nil || e.Error == "" {
		e.Error = fmt.Sprintf("the agent at %s answered %s", a.socket, response.Status)
	}
	return &refusal{response.StatusCode, e.Error}
}

// announce enrols a pod: nil when it is captured, or known to be outside the
// mesh. An agent that is being replaced is back within moments, so no answer is
// a reason to ask again until the time is up.
func (a *agent) announce(p admin.PodRequest, patience, answer time.Duration) error {
	p.TimeoutSeconds = answer.Seconds()
	patient, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again := time.NewTicker(retryEvery)
	defer again.Stop()
	for {
		err := a.ask(p, answer+dialTimeout)
		if _, refused := err.(*refusal); err == nil || refused {
			return err
		}
		select {
		case <-patient.Done():
			return err
		case <-again.C:
		}
	}
}

func (a *agent) ask(p admin.PodRequest, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return a.do(ctx, http.MethodPut, "/v1/pods", p)
}

// forget tells that a pod is gone.
func (a *agent) forget(p pod, netns string) error {
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	query := url.Values{}
	if p.uid != "" {
		query.Set("uid", p.uid)
	}
	if netns != "" {
		query.Set("netns", netns)
	}
	return a.do(ctx, http.MethodDelete, "/v1/pods/"+url.PathEscape(p.namespace)+"/"+url.PathEscape(p.name)+"?"+query.Encode(), nil)
}
