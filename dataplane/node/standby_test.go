package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
)

// TestStandBy: a pod starts at every moment of a takeover. The agent that stands by
// opens nothing while the one before works, and what is asked in between waits.
func TestStandBy(t *testing.T) {
	r := newRuntimeRig(t)
	r.config.StandBy = true
	before := r.start()
	r.eventually("the plugin is in the chain", r.isChained)

	c := r.config
	c.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opened, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		n, err := New(ctx, c)
		opened <- err
		if err == nil {
			err = n.Run(ctx)
		}
		ended <- err
	}()

	const pods = 6
	for i := range pods {
		if i == pods/2 {
			select {
			case err := <-opened:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			go before.end()
		}
		name := fmt.Sprint("p", i)
		r.name(name, "uid-"+name, true)
		if err := r.sandbox(name, "uid-"+name).add(); err != nil {
			t.Errorf("pod %d: %v", i, err)
		}
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	before.end()
	// The end of the one before took nothing away from its successor.
	if err := r.ask(http.MethodGet, "/v1/status", nil, nil); err != nil {
		t.Error(err)
	}
	for i := range pods {
		name := fmt.Sprint("p", i)
		r.eventually(name+" is enrolled", func() bool { p, ok := r.listed(name); return ok && p.Enrolled })
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
