package load

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What a client does.
const (
	Request = "request" // ping-pong of messages; several connections share a thread
	Stream  = "stream"  // blocks in one direction
	Connect = "connect" // connect, one message and its reply, close
)

// An Order is one measurement.
type Order struct {
	Do          string  `json:"do"`
	Target      string  `json:"target"` // IPv4 address and port
	Connections int     `json:"connections"`
	Warm        float64 `json:"warm"`    // seconds that do not count
	Seconds     float64 `json:"seconds"` // seconds that do
}

// A Result is what came of it. Only what was checked is counted.
type Result struct {
	Error string `json:"error,omitempty"`
	Ready bool   `json:"ready,omitempty"` // warm, and waiting for the word to go

	Made    int     `json:"made"`    // connections, those of the warm-up included
	Count   int     `json:"count"`   // requests, blocks or connections
	Bytes   int64   `json:"bytes"`   // of payload, one way
	Seconds float64 `json:"seconds"` // as it took, to the last reply
	P50     float64 `json:"p50"`     // µs for one request or connection
	P99     float64 `json:"p99"`
}

// player is one connection's thread and what it counted.
type player struct {
	to   *unix.RawSockaddrInet4
	fd   int
	out  []byte
	in   []byte
	seq  uint64
	sent int64 // bytes of the stream
	// since is when the request that is under way was sent.
	since time.Duration

	made, count int
	times       Histogram
}

// Play is a client as a process: it reads orders, one at a time, and answers each
// twice: when it is ready, and then, after a line that says go, with the result.
func Play(in io.Reader, out io.Writer, cpu, threads int) error {
	if err := Prepare(cpu, threads); err != nil {
		return err
	}
	lines, answers := bufio.NewScanner(in), json.NewEncoder(out)
	for lines.Scan() {
		var o Order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return fmt.Errorf("an order that is none: %w", err)
		}
		res, err := o.run(func() error {
			if err := answers.Encode(&Result{Ready: true}); err != nil {
				return err
			}
			if !lines.Scan() {
				return errors.New("the word to go did not come")
			}
			return nil
		})
		if err != nil {
			res = &Result{Error: err.Error()}
		}
		if err := answers.Encode(res); err != nil {
			return fmt.Errorf("report a result: %w", err)
		}
	}
	return lines.Err()
}

// run carries an order out; ready is called between warm-up and measurement.
func (o *Order) run(ready func() error) (*Result, error) {
	to, err := rawAddress(o.Target)
	if err != nil {
		return nil, err
	}
	type phase = func([]*player, time.Duration) error
	steps := map[string]struct{ open, run, end phase }{
		Request: {each((*player).open), each((*player).requests), each((*player).hangUp)},
		Stream:  {each((*player).openStream), each((*player).blocks), each((*player).endStream)},
		Connect: {nothing, each((*player).connects), nothing},
	}
	step, ok := steps[o.Do]
	if o.Do == Request && o.Connections > 1 {
		step.run = together
	}
	if !ok || o.Connections < 1 {
		return nil, fmt.Errorf("order %q with %d connections: neither known nor possible", o.Do, o.Connections)
	}
	players := make([]*player, o.Connections)
	for i := range players {
		players[i] = newPlayer(to, o)
		defer players[i].drop()
	}
	warm := time.Duration(o.Warm * float64(time.Second))
	if err := step.open(players, 0); err != nil {
		return nil, err
	}
	if err := step.run(players, warm); err != nil {
		return nil, err
	}
	for _, p := range players {
		p.count, p.times = 0, Histogram{}
	}
	if err := ready(); err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := step.run(players, time.Duration(o.Seconds*float64(time.Second))); err != nil {
		return nil, err
	}
	if err := step.end(players, 0); err != nil { // a stream has arrived when the server says so
		return nil, err
	}
	took := time.Since(begin)
	return sum(o.Do, players, took), nil
}

func nothing([]*player, time.Duration) error { return nil }

func newPlayer(to *unix.RawSockaddrInet4, o *Order) *player {
	ask := map[string]byte{Request: askReply, Stream: askSink, Connect: askLast}[o.Do]
	if o.Do == Request && o.Connections > 1 {
		ask = askTogether
	}
	return &player{to: to, fd: -1, out: newMessage(ask), in: make([]byte, MessageSize)}
}

func sum(do string, players []*player, took time.Duration) *Result {
	r := &Result{Seconds: took.Seconds()}
	var times Histogram
	for _, p := range players {
		r.Made += p.made
		r.Count += p.count
		times.Merge(&p.times)
	}
	r.Bytes = int64(r.Count) * MessageSize
	if do == Stream {
		r.Bytes = int64(r.Count) * BlockSize
	}
	r.P50 = float64(times.Quantile(0.5)) / 1e3
	r.P99 = float64(times.Quantile(0.99)) / 1e3
	return r
}

// each has every player do something at the same time, each on its own thread.
func each(do func(*player, time.Duration) error) func([]*player, time.Duration) error {
	return func(players []*player, limit time.Duration) error {
		errs := make([]error, len(players))
		var wait sync.WaitGroup
		for i, p := range players {
			wait.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				errs[i] = do(p, limit)
			})
		}
		wait.Wait()
		return errors.Join(errs...)
	}
}

func (p *player) open(time.Duration) (err error) {
	if p.fd, err = dial(p.to); err != nil {
		return err
	}
	p.made++
	return noDelay(p.fd)
}

func (p *player) drop() {
	if p.fd >= 0 {
		closeSocket(p.fd)
		p.fd = -1
	}
}

func (p *player) hangUp(time.Duration) error {
	p.drop()
	return nil
}

// exchange sends one message and checks its reply.
func (p *player) exchange() error {
	if err := p.send(); err != nil {
		return err
	}
	return p.receive()
}

func (p *player) send() error {
	p.seq++
	stamp(p.out, p.seq)
	return writeFull(p.fd, p.out)
}

func (p *player) receive() error {
	if err := readFull(p.fd, p.in); err != nil {
		return err
	}
	if string(p.in) != string(p.out) {
		return fmt.Errorf("reply %d is not what was sent", p.seq)
	}
	return nil
}

func (p *player) requests(limit time.Duration) error {
	begin := time.Now()
	for last := time.Duration(0); last < limit; {
		if err := p.exchange(); err != nil {
			return err
		}
		now := time.Since(begin)
		p.times.Add(now - last)
		p.count++
		last = now
	}
	return nil
}

// connects is a whole connection each time. The server closes first, so that
// the client's port is free again at once.
func (p *player) connects(limit time.Duration) error {
	begin := time.Now()
	for last := time.Duration(0); last < limit; {
		var err error
		if p.fd, err = dial(p.to); err != nil {
			return err
		}
		p.made++
		if err := p.exchange(); err != nil {
			return err
		}
		if err := readEnd(p.fd); err != nil {
			return err
		}
		p.drop()
		now := time.Since(begin)
		p.times.Add(now - last)
		p.count++
		last = now
	}
	return nil
}

func (p *player) openStream(time.Duration) error {
	if err := p.open(0); err != nil {
		return err
	}
	return writeFull(p.fd, p.out)
}

func (p *player) blocks(limit time.Duration) error {
	for begin := time.Now(); time.Since(begin) < limit; {
		if err := writeFull(p.fd, pattern[:BlockSize]); err != nil {
			return err
		}
		p.count++
		p.sent += BlockSize
	}
	return nil
}

// endStream asks how much arrived.
func (p *player) endStream(time.Duration) error {
	if _, err := call("shutdown", unix.SYS_SHUTDOWN, uintptr(p.fd), unix.SHUT_WR, 0); err != nil {
		return err
	}
	if err := readFull(p.fd, p.in[:8]); err != nil {
		return fmt.Errorf("the server does not say how much arrived: %w", err)
	}
	if got := int64(binary.LittleEndian.Uint64(p.in)); got != p.sent {
		return fmt.Errorf("%d bytes were sent, %d arrived", p.sent, got)
	}
	return readEnd(p.fd)
}
