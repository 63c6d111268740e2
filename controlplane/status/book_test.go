package status

import (
	"fmt"
	"testing"
	"time"

	"heddle.io/heddle/controlplane/condition"
	"heddle.io/heddle/controlplane/model"
)

// An object that is deleted and created again between two looks has no status, and
// looks as before.
func TestStatusIsLookedAtAgain(t *testing.T) {
	var objects []*condition.Object
	for i := range 2 * againMost {
		objects = append(objects, &condition.Object{Kind: "TCPRoute", Key: model.Key{Namespace: "shop", Name: fmt.Sprint("r", i)}, Generation: 1})
	}
	b, now := newBook(), time.Now()
	for _, o := range b.due(objects, now) {
		b.written(o, now)
	}
	if due := b.due(objects, now.Add(againEvery-1)); len(due) != 0 {
		t.Errorf("%d objects are due at once, want none", len(due))
	}
	now = now.Add(againEvery)
	seen := make(map[string]bool)
	for range 2 {
		due := b.due(objects, now)
		if len(due) != againMost {
			t.Fatalf("%d objects are due, want %d", len(due), againMost)
		}
		for _, o := range due {
			seen[o.Name()] = true
			b.written(o, now)
		}
	}
	if len(seen) != len(objects) {
		t.Errorf("%d of %d objects were looked at again", len(seen), len(objects))
	}
	if due := b.due(objects, now); len(due) != 0 {
		t.Errorf("%d objects are due again, want none", len(due))
	}
}
