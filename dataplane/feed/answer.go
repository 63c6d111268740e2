package feed

import (
	"context"
	"slices"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// An acknowledgement is what "programmed" is counted by, so it means that the
// kernel's tables hold what came, not that it was understood. A response waits for
// its acknowledgement until the state with it was tried. When that failed it is
// refused, so that the control plane can go on and perhaps send what works; when
// it succeeds later, it is acknowledged after all.

// applied is what became of the states.
type applied struct {
	seq   uint64 // the newest that was tried
	error string // why it is not in force; empty: it is
}

// waiting is a response that is not acknowledged yet. There is at most one of each
// type.
type waiting struct {
	answer *discovery.DeltaDiscoveryRequest
	after  uint64 // the state that holds it
	sent   bool   // it was refused, because that state could not be applied
}

// Applied tells that the state of an update, and so those before it, is in force,
// or with an error why it is not.
func (f *Feed) Applied(seq uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := applied{seq: max(seq, f.mu.applied.seq)}
	if err != nil {
		next.error = err.Error()
	}
	if next == f.mu.applied {
		return
	}
	f.mu.applied = next
	f.wakeStream()
}

// answerLocked keeps the answer to a response until the state after is applied;
// 0: it is sent at once.
func (f *Feed) answerLocked(answer *discovery.DeltaDiscoveryRequest, after uint64) {
	f.mu.waiting = slices.DeleteFunc(f.mu.waiting, func(w *waiting) bool { return w.answer.TypeUrl == answer.TypeUrl })
	f.mu.waiting = append(f.mu.waiting, &waiting{answer: answer, after: after})
	f.wakeStream()
}

func (f *Feed) wakeStream() {
	select {
	case f.answers <- struct{}{}:
	default:
	}
}

// takeAnswers returns what can be sent now.
func (f *Feed) takeAnswers() []*discovery.DeltaDiscoveryRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*discovery.DeltaDiscoveryRequest
	f.mu.waiting = slices.DeleteFunc(f.mu.waiting, func(w *waiting) bool {
		switch tried := f.mu.applied; {
		case w.after > tried.seq:
			return false // not tried yet
		case w.after == 0 || tried.error == "":
			if w.answer.ErrorDetail == nil {
				f.mu.status.Acks++
			}
			if !w.sent || w.answer.ErrorDetail == nil {
				out = append(out, w.answer)
			}
			return true
		case w.sent:
			return false // refused already
		default:
			out = append(out, f.refusedLocked(w))
			return false
		}
	})
	return out
}

// refusedLocked returns the refusal of a response whose state could not be
// applied.
func (f *Feed) refusedLocked(w *waiting) *discovery.DeltaDiscoveryRequest {
	w.sent = true
	if w.answer.ErrorDetail != nil {
		return w.answer // refused anyway
	}
	f.mu.status.Nacks++
	answer := proto.Clone(w.answer).(*discovery.DeltaDiscoveryRequest)
	text := "accepted, but not in force: " + f.mu.applied.error
	answer.ErrorDetail = &rpcstatus.Status{Code: int32(codes.Internal), Message: text[:min(len(text), maxNackText)]}
	return answer
}

// reply sends answers until ctx ends or the stream does not take one.
func (f *Feed) reply(ctx context.Context, stream adsStream) error {
	for {
		for _, answer := range f.takeAnswers() {
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.answers:
		}
	}
}
