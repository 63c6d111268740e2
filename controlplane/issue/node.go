package issue

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// StreamInterceptor lets the agents of the cluster's nodes open streams, and
// nobody else.
func (n *Nodes) StreamInterceptor() grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		from := address(stream.Context())
		token, err := bearer(stream.Context())
		if err != nil {
			return n.refuse(refusal{reason: NoToken, from: from, detail: err.Error()})
		}
		node, refused := n.review(stream.Context(), from, token)
		if refused != nil {
			refused.from = from
			return n.refuse(*refused)
		}
		guarded := &nodeStream{ServerStream: stream, nodes: n, node: node, from: from}
		err = handler(server, guarded)
		if refused := guarded.refused.Load(); refused != nil {
			return *refused // the handler knows only that the stream has ended
		}
		return err
	}
}

// UnaryInterceptor refuses: nothing but streams is served.
func (n *Nodes) UnaryInterceptor() grpc.UnaryServerInterceptor {
	return func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.Unimplemented, "only streams are served")
	}
}

// nodeStream is a stream of a known node. A request that says it is another
// node's ends it.
type nodeStream struct {
	grpc.ServerStream
	nodes *Nodes
	node  string
	from  string

	refused atomic.Pointer[error] // nil: it is not
}

func (s *nodeStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	request, ok := m.(*discovery.DeltaDiscoveryRequest)
	if !ok {
		return nil // another method, which the server does not implement
	}
	if id := request.GetNode().GetId(); id != "" && id != s.node {
		err := s.nodes.refuse(refusal{reason: WrongNode, from: s.from, node: printable(id),
			detail: fmt.Sprintf("the token is of an agent on node %q, and the request says node %q; is --node the name of the node that the pod runs on?", s.node, printable(id))})
		s.refused.Store(&err)
		return err
	}
	return nil
}

func bearer(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return "", fmt.Errorf("%d authorization headers, want one; give the agent --token-file", len(values))
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if !ok || token == "" {
		return "", fmt.Errorf("the authorization header holds no bearer token")
	}
	if len(token) > maxToken {
		return "", fmt.Errorf("the token has %d bytes, the limit is %d", len(token), maxToken)
	}
	return token, nil
}

// address is where a connection comes from, without its port.
func address(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "unknown"
	}
	text := p.Addr.String()
	if i := strings.LastIndexByte(text, ':'); i > 0 {
		text = text[:i]
	}
	return text
}

// printable makes foreign text fit for logs and terminals.
func printable(s string) string {
	const most = 253
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
