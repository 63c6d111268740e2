package serve

import (
	"context"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxResponse is the size of the largest response. Nodes accept 64 MiB. All that
// a node lacks of a type is in one response: a part of the services would look to
// it as if the others were gone.
const maxResponse = 60 << 20

// response answers a watch. Everything in it is shared with other streams and not
// changed.
type response struct {
	request    *discovery.DeltaDiscoveryRequest
	difference *difference
	versions   map[string]string // what the node has after it
	generation string
}

// GetDeltaDiscoveryResponse returns a new message: the server puts the stream's
// nonce into it.
func (r *response) GetDeltaDiscoveryResponse() (*discovery.DeltaDiscoveryResponse, error) {
	if r.difference.size > maxResponse {
		return nil, status.Errorf(codes.ResourceExhausted,
			"node %s lacks %d resources of type %s, %d bytes; the limit of a response is %d: use fewer objects, or smaller ones",
			r.request.GetNode().GetId(), len(r.difference.resources), r.request.TypeUrl, r.difference.size, maxResponse)
	}
	return &discovery.DeltaDiscoveryResponse{
		TypeUrl:           r.request.TypeUrl,
		Resources:         r.difference.resources,
		RemovedResources:  r.difference.removed,
		SystemVersionInfo: r.generation,
	}, nil
}

func (r *response) GetDeltaRequest() *discovery.DeltaDiscoveryRequest { return r.request }

func (r *response) GetSystemVersion() (string, error) { return r.generation, nil }

func (r *response) GetResponseVersion() string { return r.generation }

func (r *response) GetNextVersionMap() map[string]string { return r.versions }

func (r *response) GetReturnedResources() map[string]string { return r.versions }

func (r *response) GetContext() context.Context { return context.Background() }
