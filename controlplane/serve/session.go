package serve

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Bounds of what one stream may ask for.
const (
	maxNodeName = 253  // bytes, a DNS name
	maxTypes    = 16   // types, known and unknown
	maxNackText = 4096 // bytes of an error that is kept
)

// Node is a node with a stream.
type Node struct {
	Name      string
	Connected time.Time
	Resources int // that it has, or is about to get
	Acks      uint64
	Nacks     uint64
	Bytes     uint64 // of the responses sent on this stream
	LastNack  *Nack  // nil: none since it connected
	// Refused are the types of which the last answer was a refusal.
	Refused []string
}

// Nack is a refusal of a response.
type Nack struct {
	Time  time.Time
	Type  string // type URL
	Error string // the node's words, made printable
}

// sessions are the open streams. They are the callbacks of go-control-plane's
// server, which see every request before the cache does.
type sessions struct {
	resources *resources
	most      int
	sent      atomic.Uint64 // resources sent since start
	acks      atomic.Uint64 // since start, also of nodes that left
	nacks     atomic.Uint64

	mu struct {
		sync.Mutex
		byID map[int64]*session
	}
}

// A session is one stream. Its fields are guarded by sessions.mu.
type session struct {
	node      string // empty until the first request
	connected time.Time
	types     map[string]bool // asked for
	acks      uint64
	nacks     uint64
	bytes     uint64
	lastNack  *Nack
	refused   map[string]bool // by type URL
	// last is the last response of each type. What is in it is shared with other
	// streams.
	last map[string]*discovery.DeltaDiscoveryResponse
}

func newSessions(r *resources, most int) *sessions {
	s := &sessions{resources: r, most: most}
	s.mu.byID = make(map[int64]*session)
	return s
}

// OnDeltaStreamOpen bounds the number of streams.
func (s *sessions) OnDeltaStreamOpen(_ context.Context, id int64, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.byID) >= s.most {
		return status.Errorf(codes.ResourceExhausted, "this controller has %d streams already, which is its limit", s.most)
	}
	s.mu.byID[id] = &session{connected: time.Now(), types: make(map[string]bool), refused: make(map[string]bool), last: make(map[string]*discovery.DeltaDiscoveryResponse)}
	return nil
}

// OnDeltaStreamClosed is also called for streams that were not accepted.
func (s *sessions) OnDeltaStreamClosed(id int64, _ *core.Node) {
	s.mu.Lock()
	gone := s.mu.byID[id]
	delete(s.mu.byID, id)
	s.mu.Unlock()
	if gone != nil && gone.node != "" {
		s.resources.leave(gone.node)
	}
}

// OnStreamDeltaRequest refuses what is not served, which ends the stream, and
// counts the answers.
func (s *sessions) OnStreamDeltaRequest(id int64, request *discovery.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	session := s.mu.byID[id]
	joined, err := session.check(request)
	var answered *discovery.DeltaDiscoveryResponse
	if err == nil {
		s.countLocked(session, request)
		if nonce := request.ResponseNonce; nonce != "" {
			if answered = session.last[request.TypeUrl]; nonce != answered.GetNonce() {
				answered, request.ResponseNonce = nil, overtaken
			}
		}
	}
	s.mu.Unlock()
	if joined {
		s.resources.join(session.node)
	}
	s.resources.answered(session.node, request, answered)
	return err
}

// check validates a request. It tells whether the request said which node this
// is.
func (n *session) check(request *discovery.DeltaDiscoveryRequest) (joined bool, err error) {
	name := request.GetNode().GetId()
	if n.node == "" {
		if err := checkNodeName(name); err != nil {
			return false, err
		}
		n.node = name
		joined = true
	} else if request.GetNode() != nil && name != n.node {
		return false, status.Errorf(codes.InvalidArgument, "the stream is node %q's, and a request says node %q", n.node, printable(name, maxNodeName))
	}
	// Nodes get what they need without naming it. Naming resources would also
	// let go-control-plane's server change the version map, which streams share.
	for _, wanted := range request.ResourceNamesSubscribe {
		if wanted != "*" {
			return joined, status.Errorf(codes.InvalidArgument, "resource %q: only wildcard subscriptions are served", printable(wanted, maxNodeName))
		}
	}
	if len(request.ResourceNamesUnsubscribe) > 0 {
		return joined, status.Error(codes.InvalidArgument, "unsubscribing is not possible: only wildcard subscriptions are served")
	}
	n.types[request.TypeUrl] = true
	if len(n.types) > maxTypes {
		return joined, status.Errorf(codes.InvalidArgument, "more than %d types on one stream", maxTypes)
	}
	return joined, nil
}

func checkNodeName(name string) error {
	if name == "" {
		return status.Error(codes.InvalidArgument, "the first request must say which node it is from (node.id)")
	}
	if len(name) > maxNodeName || printable(name, maxNodeName) != name || strings.ContainsAny(name, " /:") {
		return status.Errorf(codes.InvalidArgument, "node %q is not the name of a node", printable(name, maxNodeName))
	}
	return nil
}

func (s *sessions) countLocked(n *session, request *discovery.DeltaDiscoveryRequest) {
	switch {
	case request.ErrorDetail != nil:
		n.nacks++
		s.nacks.Add(1)
		n.refused[request.TypeUrl] = true
		n.lastNack = &Nack{
			Time:  time.Now(),
			Type:  printable(request.TypeUrl, 256),
			Error: printable(request.ErrorDetail.GetMessage(), maxNackText),
		}
	case request.ResponseNonce != "":
		n.acks++
		s.acks.Add(1)
		delete(n.refused, request.TypeUrl)
	}
}

// OnStreamDeltaResponse counts what is sent.
func (s *sessions) OnStreamDeltaResponse(id int64, _ *discovery.DeltaDiscoveryRequest, response *discovery.DeltaDiscoveryResponse) {
	s.sent.Add(uint64(len(response.Resources)))
	size := uint64(proto.Size(response))
	s.mu.Lock()
	defer s.mu.Unlock()
	if session := s.mu.byID[id]; session != nil {
		session.bytes += size
		session.last[response.TypeUrl] = response
	}
}

// nodes returns the connected nodes by name. Of several streams of one node, for
// example while it reconnects, the newest counts.
func (s *sessions) nodes() []Node {
	s.mu.Lock()
	newest := make(map[string]*session)
	for _, n := range s.mu.byID {
		if other := newest[n.node]; n.node != "" && (other == nil || n.connected.After(other.connected)) {
			newest[n.node] = n
		}
	}
	out := make([]Node, 0, len(newest))
	for name, n := range newest {
		node := Node{Name: name, Connected: n.connected, Acks: n.acks, Nacks: n.nacks, Bytes: n.bytes, LastNack: n.lastNack}
		for typeURL := range n.refused {
			node.Refused = append(node.Refused, printable(typeURL, 256))
		}
		slices.Sort(node.Refused)
		out = append(out, node)
	}
	s.mu.Unlock()
	for i := range out {
		out[i].Resources = s.resources.count(out[i].Name)
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// printable makes foreign text fit for logs and terminals.
func printable(s string, most int) string {
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
