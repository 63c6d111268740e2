package status

import (
	"strings"
	"time"

	"heddle.io/heddle/controlplane/condition"
)

// book remembers what was written, so that nothing is written twice.
type book struct {
	texts map[string]string    // by object: what is written
	less  map[string]time.Time // since when an object is less than that
}

func newBook() *book {
	return &book{texts: make(map[string]string), less: make(map[string]time.Time)}
}

// due returns the objects whose status has to be written.
func (b *book) due(objects []*condition.Object, now time.Time) []*condition.Object {
	var out []*condition.Object
	seen := make(map[string]bool, len(objects))
	for _, o := range objects {
		name, text := o.Name(), o.String()
		seen[name] = true
		before, known := b.texts[name]
		if before == text {
			delete(b.less, name)
			continue
		}
		if known && b.passing(name, before, text, now) {
			continue
		}
		out = append(out, o)
	}
	for name := range b.texts {
		if !seen[name] {
			delete(b.texts, name)
			delete(b.less, name)
		}
	}
	return out
}

// passing reports whether a difference may be over soon: the object is the same
// and was programmed, and some node has not caught up with a change around it.
func (b *book) passing(name, before, text string, now time.Time) bool {
	head := func(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }
	count := func(s string) int { return strings.Count(s, condition.Programmed+"=true") }
	if head(before) != head(text) || count(text) >= count(before) {
		delete(b.less, name)
		return false
	}
	since, known := b.less[name]
	if !known {
		b.less[name] = now
		return true
	}
	return now.Sub(since) < lasting
}

func (b *book) written(o *condition.Object) {
	b.texts[o.Name()] = o.String()
	delete(b.less, o.Name())
}
