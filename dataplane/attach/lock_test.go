package attach

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

// TestAwait: who stands by goes on when the lock is given up, not before, and
// takes nothing.
func TestAwait(t *testing.T) {
	dir := t.TempDir() // any directory can be locked
	lock, err := lockPins(dir)
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := Await(ended, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("while it is held: %v, want the end of the context", err)
	}
	done := make(chan error, 1)
	go func() { done <- Await(t.Context(), dir) }()
	lock.Close()
	if err := <-done; err != nil {
		t.Errorf("after it was given up: %v", err)
	}
	again, err := lockPins(dir)
	if err != nil {
		t.Fatalf("the one who stood by holds it: %v", err)
	}
	again.Close()
	if err := Await(t.Context(), filepath.Join(dir, "none")); err != nil {
		t.Errorf("where there is nothing: %v", err)
	}
}
