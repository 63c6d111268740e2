package issue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// reviews is an API server that counts what it is asked.
type reviews struct {
	sync.Mutex
	asked int
	down  bool
	hold  chan struct{} // nil: it answers at once
}

func nodesWith(r *reviews) (*Nodes, func(time.Duration)) {
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		r.Lock()
		r.asked++
		down, hold := r.down, r.hold
		r.Unlock()
		if hold != nil {
			<-hold
		}
		if down {
			return true, nil, errors.New("no route to host")
		}
		out := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		if out.Spec.Token == "good" || out.Spec.Token == "of any audience" {
			out.Status.Authenticated = true
			if out.Spec.Token == "good" {
				out.Status.Audiences = out.Spec.Audiences
			}
			out.Status.User.Username = "system:serviceaccount:heddle-system:heddle-agent"
			out.Status.User.Extra = map[string]authenticationv1.ExtraValue{extraNode: {"n1"}}
		}
		return true, out, nil
	})
	n := NewNodes(NodesOptions{Client: client, Namespace: "heddle-system", Account: "heddle-agent", Log: slog.New(slog.DiscardHandler)})
	var mu sync.Mutex
	now := time.Now()
	n.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	return n, func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
}

func (r *reviews) count() int {
	r.Lock()
	defer r.Unlock()
	return r.asked
}

func TestTokensAreRemembered(t *testing.T) {
	r := &reviews{}
	n, pass := nodesWith(r)
	review := func(token string) string {
		node, refused := n.review(context.Background(), "192.0.2.1", token)
		if refused != nil {
			return refused.reason
		}
		return node
	}
	for step, c := range []struct {
		token string
		pass  time.Duration
		down  bool
		want  string
		asked int
	}{
		{"good", 0, false, "n1", 1},
		{"good", 0, false, "n1", 1},
		{"bad", 0, false, BadToken, 2},
		{"bad", 0, false, BadToken, 2},
		{"bad", badFor + 1, false, BadToken, 3},
		{"good", 0, true, "n1", 3}, // it is known, also while nobody can be asked
		{"other", 0, true, Unavailable, 4},
		{"other", 0, false, BadToken, 5}, // not being able to ask is no verdict
		{"good", goodFor, true, Unavailable, 6},
		{"good", 0, false, "n1", 7},
	} {
		pass(c.pass)
		r.Lock()
		r.down = c.down
		r.Unlock()
		if got := review(c.token); got != c.want || r.count() != c.asked {
			t.Errorf("step %d: %s after %d questions, want %s after %d", step, got, r.count(), c.want, c.asked)
		}
	}
}

func TestQuestionsAreShared(t *testing.T) {
	r := &reviews{hold: make(chan struct{})}
	n, _ := nodesWith(r)
	var asking sync.WaitGroup
	for range 50 {
		asking.Go(func() {
			if node, refused := n.review(context.Background(), "192.0.2.1", "good"); node != "n1" {
				t.Errorf("node %q, %+v", node, refused)
			}
		})
	}
	close(r.hold)
	asking.Wait()
	if got := r.count(); got != 1 {
		t.Errorf("%d questions for one token", got)
	}
}

func TestStrangersAreBounded(t *testing.T) {
	r := &reviews{}
	n, pass := nodesWith(r)
	busy := 0
	for i := range 100 {
		if _, refused := n.review(context.Background(), "192.0.2.9", string(rune('a'+i))); refused != nil && refused.reason == Busy {
			busy++
		}
	}
	if got := r.count(); got != oneBurst || busy != 100-oneBurst {
		t.Errorf("%d questions and %d refusals, want %d and %d", got, busy, oneBurst, 100-oneBurst)
	}
	if node, _ := n.review(context.Background(), "192.0.2.1", "good"); node != "n1" {
		t.Error("a stranger keeps a node out")
	}
	pass(time.Minute)
	if _, refused := n.review(context.Background(), "192.0.2.9", "good"); refused != nil {
		t.Errorf("the address is refused for ever: %+v", refused)
	}
}

// An API server that does not look at audiences says so by naming none. A token that
// was accepted that way is one for the API server, which every pod has.
func TestAudienceIsConfirmed(t *testing.T) {
	n, _ := nodesWith(&reviews{})
	node, refused := n.review(t.Context(), "192.0.2.1", "of any audience")
	if refused == nil || refused.reason != BadToken {
		t.Fatalf("node %q, refusal %v, want %s", node, refused, BadToken)
	}
}
