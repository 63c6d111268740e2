package issue

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"heddle.io/heddle/controlplane/model"
)

// Reasons of refusals, labels of a counter.
const (
	NoToken      = "no_token"
	BadToken     = "bad_token"
	WrongAccount = "wrong_account"
	Unbound      = "unbound_token"
	WrongNode    = "wrong_node"
	Busy         = "busy"
	Unavailable  = "api_unavailable"
)

// refusalCodes tell gRPC clients, which come back for all of them, and humans what
// kind of refusal a reason is.
var refusalCodes = map[string]codes.Code{
	NoToken:      codes.Unauthenticated,
	BadToken:     codes.Unauthenticated,
	WrongAccount: codes.PermissionDenied,
	Unbound:      codes.PermissionDenied,
	WrongNode:    codes.PermissionDenied,
	Busy:         codes.ResourceExhausted,
	Unavailable:  codes.Unavailable,
}

const (
	// maxRefusals bounds the refusals that are shown, refusalShown how long.
	maxRefusals  = 100
	refusalShown = 5 * time.Minute
)

// A refusal is why a stream was not let in.
type refusal struct {
	reason string
	from   string // address
	node   string // that the stream is, or pretends to be, of; empty: unknown
	detail string
	at     time.Time
}

func (r refusal) object() string {
	if r.node != "" {
		return "Node " + r.node
	}
	return "agent at " + r.from
}

// refuse counts and remembers a refusal, and returns what the client is told.
func (n *Nodes) refuse(r refusal) error {
	r.at = n.now()
	n.mu.Lock()
	n.mu.refused[r.reason]++
	key := r.object() + " " + r.reason
	before, known := n.mu.refusals[key]
	if known || len(n.mu.refusals) < maxRefusals {
		n.mu.refusals[key] = r
	}
	n.mu.Unlock()
	if !known || r.at.Sub(before.at) > refusalShown {
		n.o.Log.Warn("stream refused", "reason", r.reason, "from", r.from, "node", r.node, "detail", r.detail)
	}
	return status.Error(refusalCodes[r.reason], r.detail)
}

// Refused returns how many streams were refused since the start, by reason. Every
// reason is in it. n may be nil: then nobody was.
func (n *Nodes) Refused() map[string]uint64 {
	out := make(map[string]uint64, len(refusalCodes))
	for reason := range refusalCodes {
		out[reason] = 0
	}
	if n == nil {
		return out
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.Copy(out, n.mu.refused)
	return out
}

// Problems returns the refusals of the last minutes.
func (n *Nodes) Problems() []model.Problem {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	maps.DeleteFunc(n.mu.refusals, func(_ string, r refusal) bool { return now.Sub(r.at) > refusalShown })
	var out []model.Problem
	for _, key := range slices.Sorted(maps.Keys(n.mu.refusals)) {
		r := n.mu.refusals[key]
		out = append(out, model.Problem{Object: r.object(), Reason: "NodeRefused",
			Detail: fmt.Sprintf("its stream is refused (%s): %s", r.reason, r.detail)})
	}
	return out
}
