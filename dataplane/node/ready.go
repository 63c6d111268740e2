package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	api "heddle.io/heddle/api/admin"
)

const (
	readyTimeout = 4 * time.Second
	maxStatus    = 8 << 20
)

// Ready asks the agent at an admin socket whether its node is served: it answers
// and, unless alive is enough, has a configuration and the kernel follows it.
func Ready(ctx context.Context, socket string, alive bool) error {
	path := strings.TrimPrefix(socket, "unix://")
	client := http.Client{Timeout: readyTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/status", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no agent answers: %w: see its log", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent answers %s: see its log", resp.Status)
	}
	if alive {
		return nil
	}
	var s api.AgentStatus
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&s); err != nil {
		return fmt.Errorf("the agent's answer is not understood: %w: is it of another version?", err)
	}
	switch {
	case !s.Feed.Synced:
		return fmt.Errorf("the agent has no configuration yet; the controller at %s: %s: see the controller's log", s.Feed.Server, orNothing(s.Feed.Error))
	case s.Plan.Error != "":
		return errors.New("the kernel does not follow the configuration: " + s.Plan.Error + ": see the agent's log")
	}
	return nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing received yet"
	}
	return s
}
