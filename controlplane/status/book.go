package status

import (
	"strings"
	"time"

	"heddle.io/heddle/controlplane/condition"
)

// Somebody may take a status away, most often with its object, by deleting it and
// creating it again: that looks the same here. So what was written is looked at
// again after againEvery, a few at a time, so that news need not wait for it.
const (
	againEvery = 2 * time.Minute
	againMost  = 25
)

// book remembers what was written, so that nothing is written twice.
type book struct {
	texts map[string]string    // by object: what is written
	at    map[string]time.Time // when that was written, or last looked at
	less  map[string]time.Time // since when an object is less than that
}

func newBook() *book {
	return &book{texts: make(map[string]string), at: make(map[string]time.Time), less: make(map[string]time.Time)}
}

// due returns the objects whose status has to be written.
func (b *book) due(objects []*condition.Object, now time.Time) []*condition.Object {
	var out, again []*condition.Object
	seen := make(map[string]bool, len(objects))
	for _, o := range objects {
		name, text := o.Name(), o.String()
		seen[name] = true
		before, known := b.texts[name]
		if before == text {
			delete(b.less, name)
			if len(again) < againMost && now.Sub(b.at[name]) >= againEvery {
				again = append(again, o)
			}
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
			delete(b.at, name)
			delete(b.less, name)
		}
	}
	return append(out, again...)
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

func (b *book) written(o *condition.Object, now time.Time) {
	b.texts[o.Name()] = o.String()
	b.at[o.Name()] = now
	delete(b.less, o.Name())
}
