package peer

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

type dialOptions struct {
	socketOptions
	to          netip.AddrPort
	n           int           // connections; 0: as many as the time allows
	duration    time.Duration // upper bound
	rate        int           // connections a second, all workers together; 0: as fast as it goes
	workers     int
	unconnected bool // UDP by sendto
}

// dial makes new connections, asks each who answers, and closes it.
func dial(ctx context.Context, args []string) (*Result, error) {
	var o dialOptions
	fs := newFlags("dial")
	fs.IntVar(&o.n, "n", 0, "connections to make; 0: until the time is over")
	fs.DurationVar(&o.duration, "for", 5*time.Minute, "stop after this time")
	fs.IntVar(&o.rate, "rate", 0, "connections a second; 0: as fast as it goes")
	fs.IntVar(&o.workers, "workers", 1, "connections at a time")
	fs.BoolVar(&o.udp, "udp", false, "datagrams, over a connected socket each")
	fs.BoolVar(&o.unconnected, "unconnected", false, "datagrams, all over one socket by sendto")
	fs.BoolVar(&o.mapped, "mapped", false, "an IPv4 address over an IPv6 socket")
	fs.StringVar(&o.device, "device", "", "bind to this interface")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if o.to, err = netip.ParseAddrPort(fs.Arg(0)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()

	var total Result
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	for w := range o.workers {
		all.Go(func() {
			part := o.work(ctx, w)
			mu.Lock()
			defer mu.Unlock()
			total.add(part)
		})
	}
	all.Wait()
	total.Took = time.Since(began)
	return &total, nil
}

// work is one worker's share.
func (o *dialOptions) work(ctx context.Context, worker int) *Result {
	var res Result
	share := o.n / o.workers
	if worker < o.n%o.workers {
		share++
	}
	var every time.Duration
	if o.rate > 0 {
		every = time.Second * time.Duration(o.workers) / time.Duration(o.rate)
	}
	attempt := o.stream
	if o.udp {
		attempt = o.datagram
	}
	if o.unconnected {
		s, err := open(o.to, socketOptions{udp: true, mapped: o.mapped})
		if err != nil {
			res.fail("socket", err)
			return &res
		}
		defer s.close()
		attempt = func(r *Result, buf []byte) { ask(r, s, buf) }
	}
	buf := make([]byte, 2048)
	next := time.Now().Add(every * time.Duration(worker) / time.Duration(o.workers))
	for i := 0; o.n == 0 || i < share; i++ {
		if every > 0 {
			time.Sleep(time.Until(next))
			next = next.Add(every)
		}
		if ctx.Err() != nil {
			break
		}
		attempt(&res, buf)
	}
	return &res
}

func (o *dialOptions) stream(r *Result, buf []byte) {
	s, err := open(o.to, o.socketOptions)
	if err != nil {
		r.fail("socket", err)
		return
	}
	defer s.reset()
	started := time.Now()
	err = s.connect()
	r.Slowest = max(r.Slowest, time.Since(started))
	if err != nil {
		r.fail("connect", err)
		return
	}
	name, err := s.line(buf)
	if err != nil {
		r.fail("read", err)
		return
	}
	r.Connections++
	count(&r.By, name, 1)
	if r.Connections <= 1000 { // enough to find a wrong one, without its cost for each
		count(&r.Peers, s.peer(), 1)
		count(&r.Original, s.original(), 1)
	}
}

func (o *dialOptions) datagram(r *Result, buf []byte) {
	s, err := open(o.to, o.socketOptions)
	if err != nil {
		r.fail("socket", err)
		return
	}
	defer s.close()
	if err := s.connect(); err != nil {
		r.fail("connect", err)
		return
	}
	if err := s.write([]byte("who\n")); err != nil {
		r.fail("write", err)
		return
	}
	var n int
	if err := retry(func() (err error) { n, err = unix.Read(s.fd, buf); return }); err != nil {
		r.fail("read", err)
		return
	}
	r.Connections++
	count(&r.By, string(buf[:n]), 1)
	count(&r.Peers, s.peer(), 1)
}

// ask sends a datagram over an unconnected socket. The answer's source must be
// the address that was asked.
func ask(r *Result, s *socket, buf []byte) {
	err := retry(func() error { return unix.Sendto(s.fd, []byte("who\n"), 0, s.address()) })
	if err != nil {
		r.fail("sendto", err)
		return
	}
	var n int
	var from unix.Sockaddr
	err = retry(func() (err error) { n, from, err = unix.Recvfrom(s.fd, buf, 0); return })
	if err != nil {
		r.fail("recvfrom", err)
		return
	}
	if from == nil {
		r.fail("recvfrom", fmt.Errorf("no source address"))
		return
	}
	r.Connections++
	count(&r.By, string(buf[:n]), 1)
	count(&r.Peers, addrPort(from).String(), 1)
}
