package source

import (
	"slices"

	"heddle.io/heddle/controlplane/model"
)

// An outbox delivers the newest state to whom it concerns. It belongs to one
// goroutine, but for the channel.
type outbox struct {
	updates   chan Update
	published *Update // nil: none
}

func newOutbox() outbox { return outbox{updates: make(chan Update, 1)} }

// publish delivers a state, if it differs from the one before. Who reads late
// misses the ones between.
func (o *outbox) publish(next Update, problems []model.Problem) {
	next.Problems = bounded(problems)
	if last := o.published; last != nil && last.Snapshot == next.Snapshot && slices.Equal(last.Problems, next.Problems) {
		return
	}
	o.published = &next
	select { // the newest wins, but keeps the time of the one that it replaces
	case missed := <-o.updates:
		next.Noticed = missed.Noticed
	default:
	}
	o.updates <- next
}
