package source

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"heddle.io/heddle/controlplane/model"
)

// A ledger keeps which objects of an API server are in force, change by change:
// the work is in proportion to what changed, not to what there is.
//
// As with files, an object that cannot be used leaves its last good version in
// force, and an address stays with who has it. One thing is different: a pod on
// its way out may be seen longer than its address is its own, so it gives way to
// a younger one.
type ledger struct {
	inForce map[id]*object
	holders map[claim]id     // of objects in force
	waiting map[id]*object   // newest versions that claim what another has
	touched map[id]bool      // what in inForce changed since it was last asked for
	invalid map[id]complaint // newest versions that cannot be used
	refused map[id]string    // why those that wait do
}

// A complaint is why a version of an object cannot be used.
type complaint struct {
	reason string
	err    error
}

// A change is what became of an object.
type change struct {
	object *object // nil: it is gone, or cannot be used
	complaint
}

func newLedger() *ledger {
	return &ledger{
		inForce: make(map[id]*object),
		holders: make(map[claim]id),
		waiting: make(map[id]*object),
		touched: make(map[id]bool),
		invalid: make(map[id]complaint),
		refused: make(map[id]string),
	}
}

// apply takes changes into account, each object's newest.
func (l *ledger) apply(changes map[id]change) {
	wanted := maps.Clone(l.waiting)
	for i, c := range changes {
		if c.err != nil {
			l.invalid[i] = c.complaint
			continue
		}
		delete(l.invalid, i)
		delete(l.waiting, i)
		delete(l.refused, i)
		delete(wanted, i)
		switch {
		case c.object == nil:
			l.drop(i)
		case l.inForce[i] == nil || !reflect.DeepEqual(l.inForce[i], c.object):
			wanted[i] = c.object
		}
	}
	l.settle(wanted)
}

// settle puts in force what is wanted. Objects that claim nothing new come first,
// then the others by age; who was refused is asked again when somebody let go of
// something.
func (l *ledger) settle(wanted map[id]*object) {
	var contested []id
	for i, o := range wanted {
		claims, last := o.claims(), l.inForce[i]
		if len(claims) == 0 || last != nil && subset(claims, last.claims()) {
			l.put(i, o)
			continue
		}
		contested = append(contested, i)
	}
	slices.SortFunc(contested, func(x, y id) int {
		if c := wanted[x].created().Compare(wanted[y].created()); c != 0 {
			return c
		}
		return x.compare(y)
	})
	for range maxRounds {
		before := len(contested)
		contested = slices.DeleteFunc(contested, func(i id) bool { return l.grant(i, wanted[i]) })
		if len(contested) == 0 || len(contested) == before {
			return
		}
	}
}

// grant puts an object in force if it can have what it claims. Otherwise it
// waits, and its last good version stays.
func (l *ledger) grant(i id, o *object) bool {
	for _, c := range o.claims() {
		holder, taken := l.holders[c]
		if !taken || holder == i || givesWay(l.inForce[holder], o) {
			continue
		}
		l.waiting[i] = o
		l.refused[i] = fmt.Sprintf("%s belongs to %s, which is older; use another address", c, holder)
		return false
	}
	for _, c := range o.claims() {
		if holder, taken := l.holders[c]; taken && holder != i {
			l.waiting[holder] = l.inForce[holder]
			l.refused[holder] = "" // it is going anyway
			l.drop(holder)
		}
	}
	l.put(i, o)
	return true
}

// givesWay reports whether a pod that has an address is on its way out and the
// claimant came after it: the address was given away.
func givesWay(holder, claimant *object) bool {
	return holder.Pod != nil && claimant.Pod != nil && holder.Pod.Terminating && !claimant.Pod.Terminating &&
		holder.Pod.Created.Before(claimant.Pod.Created)
}

func (l *ledger) put(i id, o *object) {
	l.drop(i)
	delete(l.waiting, i)
	delete(l.refused, i)
	l.inForce[i] = o
	for _, c := range o.claims() {
		l.holders[c] = i
	}
	l.touched[i] = true
}

func (l *ledger) drop(i id) {
	o := l.inForce[i]
	if o == nil {
		return
	}
	for _, c := range o.claims() {
		delete(l.holders, c)
	}
	delete(l.inForce, i)
	l.touched[i] = true
}

// snapshot returns the objects in force. It shares with the one before what did
// not change, and is the one before when nothing did.
func (l *ledger) snapshot(before *model.Snapshot) *model.Snapshot {
	if before != nil && len(l.touched) == 0 {
		return before
	}
	if before == nil {
		before = snapshot(nil, nil)
	}
	s := *before
	cloned := make(map[string]bool)
	for i := range l.touched {
		if !cloned[i.Kind] {
			cloned[i.Kind] = true
			own(&s, i.Kind)
		}
		put(&s, i, l.inForce[i])
	}
	clear(l.touched)
	return &s
}

// problems tells why not everything is as the API server has it.
func (l *ledger) problems() []model.Problem {
	var out []model.Problem
	add := func(i id, reason, why string) {
		fate := "it is left out"
		if l.inForce[i] != nil {
			fate = "its last good version stays in force"
		}
		out = append(out, model.Problem{Object: i.String(), Reason: reason, Detail: why + "; " + fate})
	}
	for i, c := range l.invalid {
		add(i, c.reason, c.err.Error())
	}
	for i, why := range l.refused {
		if why != "" {
			add(i, "AddressInUse", why)
		}
	}
	return out
}
