package join

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// askTimeout is how long an admin socket may take, maxAnswer how much it may say,
// in bytes.
const (
	askTimeout = 5 * time.Second
	maxAnswer  = 64 << 20
)

// Ask gets a path of an admin socket and decodes the answer; into may be nil.
func Ask(ctx context.Context, socket, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	file := strings.TrimPrefix(socket, "unix://")
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", file)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", socket, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w: is the program up, and is --socket where it listens?", socket, err)
	}
	defer response.Body.Close()
	body := io.LimitReader(response.Body, maxAnswer)
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(body, 1<<10))
		return fmt.Errorf("%s answers %s: %s", socket, response.Status, strings.TrimSpace(string(text)))
	}
	if into == nil {
		_, err = io.Copy(io.Discard, body)
	} else {
		err = json.NewDecoder(body).Decode(into)
	}
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", socket, err)
	}
	return nil
}
