package source

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"heddle.io/heddle/controlplane/model"
)

// A file is what is known of one file of the directory.
type file struct {
	name string
	// documents are those of the newest contents that made sense; sum is that of
	// the newest contents.
	documents []document
	sum       [sha256.Size]byte
	// Why the newest contents cannot be read, or make no sense. The objects in
	// force stay as they are then.
	unreadable, malformed *model.Problem
	// good are the objects of this file that are in force.
	good map[id]*object
	// restored: good is from the state directory, and the file was not read yet.
	restored bool
	// writing is since when the file is being written; zero when it is not.
	writing time.Time
}

// problem returns why the documents are not those of the file; nil: they are.
func (f *file) problem() *model.Problem {
	if f.unreadable != nil {
		return f.unreadable
	}
	return f.malformed
}

// owned is an object in force, and the file that it comes from.
type owned struct {
	file   string
	object *object
}

// admission decides which objects are in force. What is already there stays: a
// newer object cannot take an address or a name away from an older one, and a
// version that cannot be admitted leaves the one before in force.
type admission struct {
	before   map[id]owned
	wanted   map[id]wish
	rivals   map[id][]string // files that have it too, and do not own it
	problems []model.Problem
}

// A wish is the version of an object that a file wants in force.
type wish struct {
	owned
	where string // the document; empty when it is the last good version
}

// admit returns the objects in force after the files changed, and every reason
// for which something is not as the files want it. Files are in the order of
// their names.
func admit(files []*file, before map[id]owned) (map[id]owned, []model.Problem) {
	a := &admission{before: before, wanted: make(map[id]wish, len(before)), rivals: make(map[id][]string)}
	total := 0
	for _, f := range files {
		count := max(len(f.documents), len(f.good))
		switch problem := f.problem(); {
		case problem != nil:
			a.problems = append(a.problems, *problem)
			a.keep(f)
		case f.restored:
			a.keep(f)
		case total+count > maxObjects:
			a.problem("file "+printable(f.name), "TooManyObjects", fmt.Sprintf("with it there are more than %d objects; its last good objects stay in force", maxObjects))
			a.keep(f)
		default:
			a.want(f)
		}
		total += count
	}
	a.reportRivals()
	granted := a.settle()
	return granted, a.problems
}

func (a *admission) problem(object, reason, detail string) {
	a.problems = append(a.problems, model.Problem{Object: object, Reason: reason, Detail: detail})
}

// keep wants what is in force already.
func (a *admission) keep(f *file) {
	for i, o := range f.good {
		a.propose(i, wish{owned{f.name, o}, ""})
	}
}

// want wants what the file says.
func (a *admission) want(f *file) {
	seen := make(map[id]string, len(f.documents))
	for _, d := range f.documents {
		last := f.good[d.id]
		if d.object == nil {
			fate := "it is left out"
			if last != nil {
				fate = "its last good version stays in force"
			}
			a.problem(d.id.String(), d.reason, fmt.Sprintf("file %s, %s: %v; %s", printable(f.name), d.where, d.err, fate))
		}
		if first, again := seen[d.id]; again {
			a.problem(d.id.String(), "Duplicate", fmt.Sprintf("file %s has it twice, in %s and in %s; the first one counts, remove the other", printable(f.name), first, d.where))
			continue
		}
		switch {
		case d.object != nil:
			a.propose(d.id, wish{owned{f.name, d.object}, d.where})
		case last != nil:
			a.propose(d.id, wish{owned{f.name, last}, ""})
		default:
			continue
		}
		seen[d.id] = d.where
	}
}

// propose notes a wish. When two files have the same object, the one that it was
// admitted from stays its owner; otherwise the first by name.
func (a *admission) propose(i id, w wish) {
	other, taken := a.wanted[i]
	if !taken {
		a.wanted[i] = w
		return
	}
	if a.before[i].file == w.file {
		a.wanted[i] = w
		w = other
	}
	a.rivals[i] = append(a.rivals[i], w.file)
}

// reportRivals tells about objects that several files have.
func (a *admission) reportRivals() {
	for i, files := range a.rivals {
		also := printable(files[0])
		if more := len(files) - 1; more > 0 {
			also += fmt.Sprintf(" and %d more files", more)
		}
		a.problem(i.String(), "Duplicate", fmt.Sprintf("it is in force as file %s has it, and also in %s; remove it from all but one", printable(a.wanted[i].file), also))
	}
}

// maxRounds bounds how often the claims are sorted out. Each round settles at
// least one conflict, usually all; only a long chain of objects that pass
// addresses on to each other takes more.
const maxRounds = 8

// settle grants the claims. Objects that claim nothing new come first, they have
// what they claim. The others follow by age. Who claims what another has falls
// back to its last good version, which claims what it claimed before; that may
// take it away from somebody who was served in this round, so it starts over.
func (a *admission) settle() map[id]owned {
	lost := make(map[id]string) // why the new version of what is in force is refused
	for round := 0; ; round++ {
		granted, holders, contested := a.uncontested(lost)
		left := make(map[id]string) // why a new object is left out
		again := false
		for _, i := range contested {
			_, had := a.before[i]
			reason := a.grant(i, holders)
			// In the last round nobody gets anything that could be
			// taken away again: who has a good version keeps it.
			if reason == "" && had && round >= maxRounds {
				reason = "too many objects exchange their addresses at once; change fewer of them at a time"
			}
			switch {
			case reason == "":
				granted[i] = a.wanted[i].owned
			case had:
				lost[i], again = reason, true
			default:
				left[i] = reason
			}
		}
		if !again {
			a.report(lost, "its last good version stays in force")
			a.report(left, "it is left out")
			return granted
		}
	}
}

// uncontested grants what takes nothing from anybody, and returns the others by
// age.
func (a *admission) uncontested(lost map[id]string) (granted map[id]owned, holders map[claim]id, contested []id) {
	granted, holders = make(map[id]owned, len(a.wanted)), make(map[claim]id, len(a.wanted)/2)
	for i, w := range a.wanted {
		last, had := a.before[i]
		switch claims := w.object.claims(); {
		case lost[i] != "":
			granted[i] = owned{w.file, last.object}
		case len(claims) == 0, had && subset(claims, last.object.claims()):
			granted[i] = w.owned
		default:
			contested = append(contested, i)
			continue
		}
		for _, c := range granted[i].object.claims() {
			holders[c] = i
		}
	}
	slices.SortFunc(contested, a.byAge)
	return granted, holders, contested
}

// grant gives an object its claims, or says who has one of them.
func (a *admission) grant(i id, holders map[claim]id) string {
	claims := a.wanted[i].object.claims()
	for _, c := range claims {
		if holder, taken := holders[c]; taken && holder != i {
			return fmt.Sprintf("%s belongs to %s, which is older; use another address", c, holder)
		}
	}
	for _, c := range claims {
		holders[c] = i
	}
	return ""
}

func (a *admission) report(refused map[id]string, fate string) {
	for _, i := range slices.SortedFunc(maps.Keys(refused), id.compare) {
		w := a.wanted[i]
		a.problem(i.String(), "AddressInUse", fmt.Sprintf("file %s, %s: %s; %s", printable(w.file), w.where, refused[i], fate))
	}
}

// byAge orders by creation, then by name. An object without a creation time is
// older than one with.
func (a *admission) byAge(x, y id) int {
	if c := a.wanted[x].object.created().Compare(a.wanted[y].object.created()); c != 0 {
		return c
	}
	return x.compare(y)
}

func subset(claims, of []claim) bool {
	have := make(map[claim]bool, len(of))
	for _, c := range of {
		have[c] = true
	}
	for _, c := range claims {
		if !have[c] {
			return false
		}
	}
	return true
}
