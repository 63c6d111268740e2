package peer

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// hold keeps connections open and exchanges a line on each again and again. A
// connection that breaks is counted and not made again.
func hold(ctx context.Context, args []string) (*Result, error) {
	fs := newFlags("hold")
	n := fs.Int("n", 20, "connections")
	duration := fs.Duration("for", time.Minute, "stop after this time")
	every := fs.Duration("every", 20*time.Millisecond, "time between two exchanges on a connection")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(fs.Arg(0))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, *duration)
	defer cancel()

	var total Result
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	for range *n {
		all.Go(func() {
			part := converse(ctx, to, *every)
			mu.Lock()
			defer mu.Unlock()
			total.add(part)
		})
	}
	all.Wait()
	total.Took = time.Since(began)
	return &total, nil
}

// converse is one connection's life. What the kernel says of it is asked at the
// end, so a table that lost it in between is seen.
func converse(ctx context.Context, to netip.AddrPort, every time.Duration) *Result {
	var r Result
	s, err := open(to, socketOptions{})
	if err != nil {
		r.fail("socket", err)
		return &r
	}
	defer s.close()
	if err := s.connect(); err != nil {
		r.fail("connect", err)
		return &r
	}
	buf := make([]byte, 256)
	name, err := s.line(buf)
	if err != nil {
		r.fail("read", err)
		return &r
	}
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			r.Connections++
			count(&r.By, name, 1)
			count(&r.Peers, s.peer(), 1)
			count(&r.Original, s.original(), 1)
			return &r
		case <-ticks.C:
		}
		said := strconv.Itoa(r.Exchanges)
		if err := s.write([]byte(said + "\n")); err != nil {
			r.fail("write", err)
			return &r
		}
		heard, err := s.line(buf)
		if err != nil {
			r.fail("read", err)
			return &r
		}
		if heard != said {
			r.fail("read", fmt.Errorf("another line than was sent"))
			return &r
		}
		r.Exchanges++
	}
}
