package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/semantics"
)

// A setting is where the two sides are, and over which IP they talk.
type setting struct {
	Name string
	near bool
	v6   bool
}

var settings = []setting{
	{"One node, IPv4", true, false},
	{"One node, IPv6", true, true},
	{"Two nodes, IPv4", false, false},
	{"Two nodes, IPv6", false, true},
}

// measure runs the rows of every mode in every setting. Plain TCP is run once
// for each setting, and again beside every row that differs, on the same nodes.
func measure(ctx context.Context, o options, bin string) (*table, error) {
	// The sandbox has one name, so that a run finds what a killed one left: runs
	// take turns.
	turn, err := os.OpenFile(filepath.Join(os.TempDir(), boxName+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	if err := again(func() error { return unix.Flock(int(turn.Fd()), unix.LOCK_EX) }); err != nil {
		return nil, fmt.Errorf("wait for another run: %w", err)
	}
	t := &table{
		Date: time.Now().UTC().Truncate(time.Second), Kernel: kernel(),
		Command: command(os.Args), Rows: len(o.rows), Conntrack: o.conntrack,
	}
	for _, s := range settings {
		t.Sections = append(t.Sections, &section{Setting: s.Name})
	}
	for _, m := range o.modes {
		if err := measureMode(ctx, o, bin, m, t); err != nil {
			return nil, fmt.Errorf("mode %s: %w", m.name, err)
		}
	}
	return t, nil
}

func measureMode(ctx context.Context, o options, bin string, m mode, t *table) (err error) {
	b, err := newBed(ctx, bin, m, o.conntrack)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	mechanism, err := b.mechanism(ctx, m.uses)
	if err != nil {
		return err
	}
	for i, s := range settings {
		if m.near && !s.near || o.only != nil && !o.only(s) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", m.name, s.Name)
		began := time.Now()
		c, err := measureSetting(ctx, o, b, s, t.Sections[i])
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		c.Mode, c.Mechanism = m.name, mechanism
		t.Sections[i].Modes = append(t.Sections[i].Modes, c)
		fmt.Fprintf(os.Stderr, "   %.0f s\n", time.Since(began).Seconds())
	}
	return nil
}

func measureSetting(ctx context.Context, o options, b *bed, s setting, into *section) (*column, error) {
	direct, through := b.ends(s, outside), b.ends(s, enrolled)
	opened, err := b.opened(ctx)
	if err != nil {
		return nil, err
	}
	known := into.Plain
	plain := func(rows []semantics.Row) []semantics.Outcome {
		if known != nil { // of an earlier mode; a repetition is a new run
			defer func() { known = nil }()
			return append([]semantics.Outcome(nil), known...)
		}
		return semantics.Run(ctx, direct, rows)
	}
	first, outcomes, differences := semantics.Compare(o.rows, plain, func(rows []semantics.Row) []semantics.Outcome {
		return semantics.Run(ctx, through, rows)
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("interrupted: %w", err)
	}
	// A table about the wrong connections would be all equal.
	now, err := b.opened(ctx)
	if err != nil {
		return nil, err
	}
	if now-opened < uint64(len(o.rows)/2) {
		return nil, fmt.Errorf("only %d connections of %d rows went by Heddle: see heddlectl status --sandbox=%s", now-opened, len(o.rows), b.box.Name())
	}
	if into.Plain == nil {
		into.Plain = first
	}
	return &column{Outcomes: outcomes, Differences: differences, Connections: now - opened}, nil
}

func kernel() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(uts.Sysname[:]) + " " + unix.ByteSliceToString(uts.Release[:]) + " " + unix.ByteSliceToString(uts.Machine[:])
}
