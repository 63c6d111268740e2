package feed

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/feed/feedtest"
	"heddle.io/heddle/dataplane/state"
)

const node = feedtest.Node

// client is a running feed.
type client struct {
	*Feed
	t    *testing.T
	last Update
	stop func() // ends it and waits
}

func run(t *testing.T, o Options) *client {
	t.Helper()
	o.Node = node
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	c := &client{Feed: f, t: t, stop: func() { cancel(); running.Wait() }}
	t.Cleanup(c.stop)
	return c
}

func follow(t *testing.T, s *feedtest.Server) *client { return run(t, Options{Server: s.Address()}) }

// until reads updates until ok accepts one.
func (c *client) until(what string, ok func(*state.Snapshot) bool) Update {
	c.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case c.last = <-c.Updates():
			if ok(c.last.Snapshot) {
				return c.last
			}
		case <-deadline:
			c.t.Fatalf("no snapshot with %s within 10s; last %+v, status %+v", what, c.last.Snapshot, c.Status())
		}
	}
}

// eventually waits for a condition that is not in a snapshot.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within 10s: %s", what)
}

func hasWeight(name string, weight uint32) (string, func(*state.Snapshot) bool) {
	return fmt.Sprintf("weight %d at %s", weight, name), func(s *state.Snapshot) bool {
		svc, ok := s.Services["shop/"+name]
		return ok && svc.Ports[0].Clusters[0].Weight == weight
	}
}

func problemReasons(list []admin.Problem) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Object+" "+p.Reason)
	}
	return out
}
