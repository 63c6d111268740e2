package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	maxAnswer = 64 << 20 // bytes of one answer; a page stays far below
	pageSize  = 500
	maxPages  = 200
)

// Cluster is a cluster and the namespace of Heddle in it. It may be used
// concurrently.
type Cluster struct {
	config *rest.Config
	base   *url.URL
	http   *http.Client
	system string
}

// Open prepares requests to a cluster; none is sent yet. An empty system is
// SystemNamespace.
func Open(config *rest.Config, system string) (*Cluster, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("the API server's address %q: %w: check the kubeconfig", config.Host, err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare a client of %s: %w: check the kubeconfig", config.Host, err)
	}
	if system == "" {
		system = SystemNamespace
	}
	return &Cluster{config, base, client, system}, nil
}

// Server is the API server's address.
func (c *Cluster) Server() string { return c.base.String() }

// System is the namespace of Heddle.
func (c *Cluster) System() string { return c.system }

// A Resource is a kind of object as the API server's paths name it.
type Resource struct {
	Group, Version, Name string // Name is the plural: "pods"; Group is empty for the core
	Namespace            string // empty: of the whole cluster
	Labels, Fields       string // selectors
}

func (r Resource) path(more ...string) string {
	root := "api/" + r.Version
	if r.Group != "" {
		root = "apis/" + r.Group + "/" + r.Version
	}
	if r.Namespace != "" {
		root += "/namespaces/" + url.PathEscape(r.Namespace)
	}
	root += "/" + r.Name
	for _, m := range more {
		root += "/" + m
	}
	return root
}

// List is the objects of a resource as the API server wrote them, page by page.
// cut says that there are more than are read at most.
func (c *Cluster) List(ctx context.Context, r Resource) (items []json.RawMessage, cut bool, err error) {
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	if r.Labels != "" {
		query.Set("labelSelector", r.Labels)
	}
	if r.Fields != "" {
		query.Set("fieldSelector", r.Fields)
	}
	for range maxPages {
		text, err := c.get(ctx, r, "list", r.path(), query)
		if err != nil {
			return items, false, err
		}
		var page struct {
			Metadata metav1.ListMeta   `json:"metadata"`
			Items    []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return items, false, fmt.Errorf("the list of %s is not understood: %w", r.Name, err)
		}
		items = append(items, page.Items...)
		if page.Metadata.Continue == "" {
			return items, false, nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
	return items, true, nil
}

// list decodes a resource's objects.
func list[T any](ctx context.Context, c *Cluster, r Resource) ([]T, error) {
	raw, _, err := c.List(ctx, r)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(raw))
	for i := range raw {
		if err := json.Unmarshal(raw[i], &out[i]); err != nil {
			return nil, fmt.Errorf("an object of %s is not understood: %w", r.Name, err)
		}
	}
	return out, nil
}

// object reads one object.
func object[T any](ctx context.Context, c *Cluster, r Resource, name string) (*T, error) {
	text, err := c.get(ctx, r, "get", r.path(url.PathEscape(name)), nil)
	if err != nil {
		return nil, err
	}
	out := new(T)
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("%s %s is not understood: %w", r.Name, name, err)
	}
	return out, nil
}

// get asks the API server. An answer that is an error is a StatusError of
// apierrors, within a *Denied when the right is missing.
func (c *Cluster) get(ctx context.Context, r Resource, verb, path string, query url.Values) ([]byte, error) {
	target := c.base.JoinPath(path)
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.Name, err)
	}
	req.Header.Set("Accept", "application/json, text/plain")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &Unreachable{c.Server(), err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &Unreachable{c.Server(), err}
	}
	if resp.StatusCode < 400 {
		return text, nil
	}
	err = statusError(resp, text)
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return nil, denied(err, verb, r.qualified(), r.Namespace)
	}
	return nil, err
}

// qualified is the resource as RBAC names it.
func (r Resource) qualified() string {
	if r.Group != "" {
		return r.Name + "." + r.Group
	}
	return r.Name
}

func statusError(resp *http.Response, text []byte) error {
	var status metav1.Status
	if json.Unmarshal(text, &status) != nil || status.Message == "" {
		status = metav1.Status{Status: metav1.StatusFailure, Code: int32(resp.StatusCode), Message: resp.Status}
	}
	return &apierrors.StatusError{ErrStatus: status}
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}
