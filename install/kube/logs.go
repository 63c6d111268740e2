package kube

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
)

// Logs are the last lines that a container wrote, at most limit bytes of them;
// previous are those of the run before the present one.
func (c *Cluster) Logs(ctx context.Context, p *Pod, previous bool, lines, limit int) (string, error) {
	query := url.Values{
		"container": {p.Container}, "timestamps": {"true"},
		"tailLines": {strconv.Itoa(lines)}, "limitBytes": {strconv.Itoa(limit)},
	}
	if previous {
		query.Set("previous", "true")
	}
	r := Resource{Version: "v1", Name: "pods", Namespace: p.Namespace}
	path := r.path(url.PathEscape(p.Name), "log")
	r.Name = "pods/log" // what the right is called
	text, err := c.get(ctx, r, "get", path, query)
	if err != nil {
		return "", fmt.Errorf("read the log of %s/%s: %w", p.Namespace, p.Name, err)
	}
	return string(text), nil
}
