package endpoints

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// API is the API server.
type API struct {
	URL    string // https://host:port
	Client *http.Client
	// Token returns what the requests are authorized by. It is called for each.
	Token func() (string, error)
}

const (
	askTimeout = 5 * time.Second
	// maxAnswer bounds an answer, maxAddresses what is used of it.
	maxAnswer    = 1 << 20
	maxAddresses = 64
)

// sliceList is what matters of an EndpointSliceList.
type sliceList struct {
	Items []struct {
		Ports []struct {
			Name *string `json:"name"`
			Port *int32  `json:"port"`
		} `json:"ports"`
		Endpoints []struct {
			Addresses  []string `json:"addresses"`
			Conditions struct {
				Ready *bool `json:"ready"`
			} `json:"conditions"`
		} `json:"endpoints"`
	} `json:"items"`
}

// endpoints returns the addresses with ports of the ready endpoints, sorted.
func (a API) endpoints(ctx context.Context, namespace, service, port string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	path := fmt.Sprintf("%s/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices?limit=100&labelSelector=%s",
		a.URL, url.PathEscape(namespace), url.QueryEscape("kubernetes.io/service-name="+service))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	token, err := a.Token()
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "heddled")
	response, err := a.Client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the answer of the API server: %w", err)
	case response.StatusCode == http.StatusForbidden || response.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("the API server answers %s: the agent needs a Role that lets it list EndpointSlices in namespace %s", response.Status, namespace)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the API server answers %s", response.Status)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the answer of the API server has more than %d bytes", maxAnswer)
	}
	return addresses(body, port)
}

// addresses finds the addresses in a list of slices.
func addresses(body []byte, port string) ([]string, error) {
	var list sliceList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("the answer of the API server is no EndpointSliceList: %w", err)
	}
	var out []string
	for _, slice := range list.Items {
		for _, p := range slice.Ports {
			if p.Port == nil {
				continue
			}
			number := strconv.Itoa(int(*p.Port))
			if number != port && (p.Name == nil || *p.Name != port) {
				continue
			}
			for _, e := range slice.Endpoints {
				if ready := e.Conditions.Ready; len(e.Addresses) > 0 && (ready == nil || *ready) {
					out = append(out, net.JoinHostPort(e.Addresses[0], number))
				}
			}
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxAddresses)], nil
}
