package source

import (
	"cmp"
	"time"
)

// Changes come in bursts. The first is handled at once, so that a single change
// is as fast as can be; what follows is gathered until nothing came for
// gatherQuiet, but no longer than gatherMost.
const (
	gatherQuiet = 4 * time.Millisecond
	gatherMost  = 20 * time.Millisecond
)

// gather decides when changes are handled. The zero value is ready. It reads no
// clock and belongs to one goroutine.
type gather struct {
	quiet, most time.Duration // 0: gatherQuiet, gatherMost

	last    time.Time // the newest change, or when changes were handled last
	first   time.Time // the oldest change that is not handled
	waiting bool
}

// note tells about a change.
func (g *gather) note(now time.Time) {
	if !g.waiting {
		g.waiting = true
		g.first = now
		if now.Sub(g.last) >= cmp.Or(g.quiet, gatherQuiet) { // the first after a quiet time
			g.first = now.Add(-cmp.Or(g.most, gatherMost))
		}
	}
	g.last = now
}

// due returns when the changes are to be handled; false when there are none.
func (g *gather) due() (time.Time, bool) {
	quiet, most := g.last.Add(cmp.Or(g.quiet, gatherQuiet)), g.first.Add(cmp.Or(g.most, gatherMost))
	if most.Before(quiet) {
		return most, g.waiting
	}
	return quiet, g.waiting
}

// handled tells that everything noted was handled.
func (g *gather) handled(now time.Time) {
	g.waiting = false
	g.last = now
}

// A file that disappears is forgotten only when no other has disappeared for
// goneQuiet, or after goneMost. By then a directory that is being deleted file by
// file is gone itself, and nothing is forgotten; and a file that was renamed, or
// an object that was moved from one file to another, is back.
const (
	goneQuiet = 50 * time.Millisecond
	goneMost  = time.Second
)

// gone are files that disappeared. The zero value is ready.
type gone struct {
	names       map[string]bool
	first, last time.Time
}

func (g *gone) add(name string, now time.Time) {
	if g.names[name] {
		return
	}
	if len(g.names) == 0 {
		g.names = make(map[string]bool)
		g.first = now
	}
	g.names[name] = true
	g.last = now
}

func (g *gone) remove(name string) { delete(g.names, name) }

// due returns when the files are to be forgotten; false when there are none.
func (g *gone) due() (time.Time, bool) {
	quiet, most := g.last.Add(goneQuiet), g.first.Add(goneMost)
	if most.Before(quiet) {
		return most, len(g.names) > 0
	}
	return quiet, len(g.names) > 0
}
