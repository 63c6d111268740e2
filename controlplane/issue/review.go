package issue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Audience is what an agent's token has to be for.
const Audience = "heddle"

// What the API server tells of a token that is bound to a pod. The node is told
// since Kubernetes 1.30; before, the pod is asked for it.
const (
	extraNode = "authentication.kubernetes.io/node-name"
	extraPod  = "authentication.kubernetes.io/pod-name"
	extraUID  = "authentication.kubernetes.io/pod-uid"
)

const (
	// goodFor is how long a token is accepted without asking again: a stream
	// that breaks comes back without a load on the API server, and while that is
	// away. It is also how long the token of a deleted pod still opens streams.
	goodFor = 2 * time.Minute
	// badFor is how long one is refused without asking again.
	badFor = 10 * time.Second
	// maxKnown bounds the tokens that are remembered.
	maxKnown = 20_000
	// maxToken bounds a token, in bytes.
	maxToken = 16 << 10

	// Questions to the API server, of all and of one address. A cluster whose
	// agents all come at once is through in seconds; a stranger with made-up
	// tokens takes little of it.
	allRate, allBurst = 200, 1000
	oneRate, oneBurst = 2, 10
	// maxAddresses bounds the addresses with a budget of their own.
	maxAddresses = 20_000
)

// NodesOptions say who is let in. All are required.
type NodesOptions struct {
	Client    kubernetes.Interface
	Namespace string // of the agents
	Account   string // their ServiceAccount
	Log       *slog.Logger
}

// Nodes tells which node a stream is of. Its methods may be called from any
// goroutine.
type Nodes struct {
	o   NodesOptions
	all *rate.Limiter
	now func() time.Time

	mu struct {
		sync.Mutex
		known    map[[sha256.Size]byte]*verdict
		budgets  map[string]*rate.Limiter // by address
		refused  map[string]uint64
		refusals map[string]refusal
	}
}

// A verdict is what became of a token. It may be read when done is closed.
type verdict struct {
	done    chan struct{}
	node    string
	refused *refusal
	until   time.Time // guarded by Nodes.mu; zero: not done
}

// NewNodes returns Nodes that know nobody yet.
func NewNodes(o NodesOptions) *Nodes {
	n := &Nodes{o: o, all: rate.NewLimiter(allRate, allBurst), now: time.Now}
	n.mu.known = make(map[[sha256.Size]byte]*verdict)
	n.mu.budgets = make(map[string]*rate.Limiter)
	n.mu.refused = make(map[string]uint64)
	n.mu.refusals = make(map[string]refusal)
	return n
}

// review returns the node of a token. Streams that show one token at the same time
// share a question.
func (n *Nodes) review(ctx context.Context, from, token string) (string, *refusal) {
	key := sha256.Sum256([]byte(token))
	n.mu.Lock()
	v := n.mu.known[key]
	if v == nil || !v.until.IsZero() && n.now().After(v.until) {
		if !n.affordLocked(from) {
			n.mu.Unlock()
			return "", &refusal{reason: Busy, detail: "too many tokens from " + from + " at once; the agent tries again"}
		}
		n.forgetLocked()
		v = &verdict{done: make(chan struct{})}
		n.mu.known[key] = v
		go n.decide(key, v, token)
	}
	n.mu.Unlock()
	select {
	case <-v.done:
	case <-ctx.Done():
		return "", &refusal{reason: Unavailable, detail: "the agent went before the API server had answered"}
	}
	if v.refused != nil {
		r := *v.refused
		return "", &r
	}
	return v.node, nil
}

// affordLocked takes a question from the budgets.
func (n *Nodes) affordLocked(from string) bool {
	now := n.now()
	budget := n.mu.budgets[from]
	if budget == nil {
		if len(n.mu.budgets) >= maxAddresses {
			maps.DeleteFunc(n.mu.budgets, func(_ string, b *rate.Limiter) bool { return b.TokensAt(now) >= oneBurst })
		}
		if len(n.mu.budgets) >= maxAddresses {
			return false
		}
		budget = rate.NewLimiter(oneRate, oneBurst)
		n.mu.budgets[from] = budget
	}
	return budget.AllowN(now, 1) && n.all.AllowN(now, 1)
}

// forgetLocked makes room for a verdict: of those that ended first, then of any.
func (n *Nodes) forgetLocked() {
	if len(n.mu.known) < maxKnown {
		return
	}
	now := n.now()
	maps.DeleteFunc(n.mu.known, func(_ [sha256.Size]byte, v *verdict) bool { return !v.until.IsZero() && now.After(v.until) })
	for key, v := range n.mu.known {
		if len(n.mu.known) < maxKnown {
			return
		}
		if !v.until.IsZero() {
			delete(n.mu.known, key)
		}
	}
}

// decide asks the API server. It outlives the stream that asked first: others may
// wait for the same verdict.
func (n *Nodes) decide(key [sha256.Size]byte, v *verdict, token string) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	v.node, v.refused = n.ask(ctx, token)
	n.mu.Lock()
	switch {
	case v.refused == nil:
		v.until = n.now().Add(goodFor)
	case v.refused.reason == Unavailable:
		// Says nothing about the token.
		if n.mu.known[key] == v {
			delete(n.mu.known, key)
		}
		v.until = n.now()
	default:
		v.until = n.now().Add(badFor)
	}
	n.mu.Unlock()
	close(v.done)
}

func (n *Nodes) ask(ctx context.Context, token string) (string, *refusal) {
	review, err := n.o.Client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", &refusal{reason: Unavailable, detail: fmt.Sprintf("the API server cannot be asked about the token: %v; nodes that were known keep being served", err)}
	}
	s := review.Status
	if !s.Authenticated {
		return "", &refusal{reason: BadToken, detail: fmt.Sprintf("the API server does not accept the token for audience %s: %s", Audience, printable(s.Error))}
	}
	// An authenticator that knows no audiences accepts a token for any, and says
	// so by naming none: every pod's default token would do.
	if !slices.Contains(s.Audiences, Audience) {
		return "", &refusal{reason: BadToken, detail: fmt.Sprintf("the API server did not check that the token is for audience %s; the agent's has to be projected with it", Audience)}
	}
	want := "system:serviceaccount:" + n.o.Namespace + ":" + n.o.Account
	if s.User.Username != want {
		return "", &refusal{reason: WrongAccount, detail: fmt.Sprintf("the token is of %s, and only %s is served", printable(s.User.Username), want)}
	}
	node, err := n.nodeOf(ctx, s.User.Extra)
	switch {
	case errors.Is(err, errUnbound):
		return "", &refusal{reason: Unbound, detail: err.Error()}
	case err != nil:
		return "", &refusal{reason: Unavailable, detail: err.Error()}
	}
	return node, nil
}

var errUnbound = errors.New("the token is not bound to a pod on a node; mount one with a projected volume")

// nodeOf returns the node that a token is bound to, by itself or by its pod.
func (n *Nodes) nodeOf(ctx context.Context, extra map[string]authenticationv1.ExtraValue) (string, error) {
	one := func(key string) string {
		if values := extra[key]; len(values) == 1 {
			return values[0]
		}
		return ""
	}
	if node := one(extraNode); node != "" {
		return node, nil
	}
	name, uid := one(extraPod), one(extraUID)
	if name == "" || uid == "" {
		return "", errUnbound
	}
	pod, err := n.o.Client.CoreV1().Pods(n.o.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("finding the node of pod %s/%s: %w", n.o.Namespace, printable(name), err)
	}
	if string(pod.UID) != uid || pod.Spec.NodeName == "" {
		return "", errUnbound
	}
	return pod.Spec.NodeName, nil
}
