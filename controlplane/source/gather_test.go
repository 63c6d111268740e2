package source

import (
	"testing"
	"time"
)

func TestGather(t *testing.T) {
	ms := func(n int) time.Time { return time.Unix(1000, 0).Add(time.Duration(n) * time.Millisecond) }
	var g gather
	if _, ok := g.due(); ok {
		t.Fatal("something is due before anything changed")
	}
	expect := func(what string, want int) {
		t.Helper()
		at, ok := g.due()
		if !ok || !at.Equal(ms(want)) {
			t.Errorf("%s: due at %s, %v; want %s", what, at.Sub(ms(0)), ok, ms(want).Sub(ms(0)))
		}
	}
	g.note(ms(0))
	expect("the first change", 0)
	g.handled(ms(1))
	g.note(ms(2))
	expect("one that follows", 6)
	g.note(ms(5))
	expect("another", 9)
	for i := 6; i <= 30; i++ {
		g.note(ms(i))
	}
	expect("no end of them", 22)
	g.handled(ms(31))
	if _, ok := g.due(); ok {
		t.Error("something is due after all was handled")
	}
	g.note(ms(36))
	expect("one after a quiet time", 36)
}

func TestGone(t *testing.T) {
	ms := func(n int) time.Time { return time.Unix(1000, 0).Add(time.Duration(n) * time.Millisecond) }
	var g gone
	g.add("a", ms(0))
	g.add("b", ms(30))
	g.add("a", ms(60)) // known already: does not put it off
	if at, ok := g.due(); !ok || !at.Equal(ms(80)) {
		t.Errorf("due at %v, %v", at, ok)
	}
	for i := range 100 {
		g.add(string(rune('A'+i)), ms(30+i*20))
	}
	if at, _ := g.due(); !at.Equal(ms(1000)) {
		t.Errorf("with no end of them due at %v", at)
	}
	for name := range g.names {
		g.remove(name)
	}
	if _, ok := g.due(); ok {
		t.Error("something is due although all came back")
	}
}
