package feed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// An acknowledgement is what "programmed" is counted by, so it means that the
// kernel's tables hold what came, not that it was understood. A response waits for
// its acknowledgement until the state with it was tried. When that failed it is
// refused, so that the control plane can go on and perhaps send what works; when
// it succeeds later, it is acknowledged after all.

// A refusal names the resources that it is about as the fields of a BadRequest, so
// that the others count. Without names it is about all that the response holds.

// Incomplete is the error of a state of which all is in force but these Services,
// by name, with the reasons: not everything fits into the kernel's tables.
type Incomplete map[string]string

func (i Incomplete) Error() string {
	first := slices.Min(slices.Collect(maps.Keys(i)))
	text := "Service " + first + ": " + i[first]
	if len(i) > 1 {
		text += fmt.Sprintf("; and %d more", len(i)-1)
	}
	return text
}

// applied is what became of the states.
type applied struct {
	seq   uint64 // the newest that was tried
	error string // why it is not in force; empty: it is
	lacks string // the Services alone that are not, one a line; empty: it is not known, or none
}

// subject is what a refusal for it is about; empty: there is none.
func (a applied) subject() string {
	if a.error != "" && a.lacks == "" {
		return "everything"
	}
	return a.lacks
}

// waiting is a response that is not acknowledged yet. There is at most one of each
// type.
type waiting struct {
	answer *discovery.DeltaDiscoveryRequest
	after  uint64 // the state that holds it
	told   string // what it was refused for, because that state could not be applied
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
	if some := (Incomplete)(nil); errors.As(err, &some) && len(some) <= maxNamed {
		next.lacks = strings.Join(slices.Sorted(maps.Keys(some)), "\n")
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
			out = append(out, w.answer)
			return true
		case w.told == tried.subject():
			return false // refused already
		default:
			out = append(out, f.refusedLocked(w))
			return false
		}
	})
	return out
}

// refusedLocked returns the refusal of a response whose state could not be
// applied as a whole.
func (f *Feed) refusedLocked(w *waiting) *discovery.DeltaDiscoveryRequest {
	w.told = f.mu.applied.subject()
	var lacks []string
	if f.mu.applied.lacks != "" {
		lacks = strings.Split(f.mu.applied.lacks, "\n")
	}
	answer := proto.Clone(w.answer).(*discovery.DeltaDiscoveryRequest)
	code, text := codes.Internal, "accepted, but not in force: "+f.mu.applied.error
	if bad := w.answer.ErrorDetail; bad != nil {
		text = bad.Message + "; and the rest is not in force: " + f.mu.applied.error
		if named := namedBy(bad); len(lacks) > 0 && len(named) > 0 {
			code, lacks = codes.InvalidArgument, append(lacks, named...)
		}
	}
	f.mu.status.Nacks++
	answer.ErrorDetail = refusalOf(code, text, lacks)
	return answer
}

// maxNamed bounds the resources that a refusal names. One of more names none.
const maxNamed = 1000

func refusalOf(code codes.Code, text string, names []string) *rpcstatus.Status {
	s := &rpcstatus.Status{Code: int32(code), Message: text[:min(len(text), maxNackText)]}
	if len(names) == 0 || len(names) > maxNamed {
		return s
	}
	var bad errdetails.BadRequest
	for _, name := range names {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: name})
	}
	if detail, err := anypb.New(&bad); err == nil { // else all counts as refused
		s.Details = []*anypb.Any{detail}
	}
	return s
}

// namedBy returns the resources that a refusal of refusalOf names.
func namedBy(s *rpcstatus.Status) (names []string) {
	for _, detail := range s.GetDetails() {
		var bad errdetails.BadRequest
		if detail.UnmarshalTo(&bad) == nil {
			for _, v := range bad.FieldViolations {
				names = append(names, v.Field)
			}
		}
	}
	return names
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
