package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// loadOrder is one run of the load generator: a new TCP connection per
// request, at a fixed rate, whatever the answers do.
type loadOrder struct {
	Target  string  `json:"target"` // address:port of an HTTP server
	Rate    float64 `json:"rate"`   // per second
	Seconds float64 `json:"seconds"`
	Workers int     `json:"workers,omitempty"` // connections at a time; default 16
}

// loadResult is what came of a run.
type loadResult struct {
	Requests int            `json:"requests"` // answered
	Failed   int            `json:"failed"`
	Failures map[string]int `json:"failures,omitempty"` // by cause: ECONNREFUSED, timeout, …
	P50      float64        `json:"p50us"`              // connect to last byte, of the answered ones
	P99      float64        `json:"p99us"`
	Max      float64        `json:"maxus"`
	Steps    []loadStep     `json:"steps"`
}

// loadStep is what was begun in a short stretch of a run.
type loadStep struct {
	Begin   time.Time      `json:"begin"`
	Answers map[string]int `json:"answers"` // by the first line of the body
	Failed  int            `json:"failed,omitempty"`
}

const (
	stepLength  = 20 * time.Millisecond
	maxRequests = 2_000_000 // samples kept of one run
	dialLimit   = 3 * time.Second
)

// loadCommand generates load inside a pod. It is a subcommand, so that it is
// there wherever a sandbox is.
func (a *app) loadCommand() *cobra.Command {
	var order loadOrder
	var orders bool
	cmd := &cobra.Command{
		Use:    "load",
		Short:  "Open connections at a fixed rate and count who answers",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if orders {
				return serveOrders(cmd.Context(), a.in, a.out)
			}
			result, err := order.run(cmd.Context())
			if err != nil {
				return err
			}
			return json.NewEncoder(a.out).Encode(result)
		},
	}
	f := cmd.Flags()
	f.StringVar(&order.Target, "target", "", "ADDRESS:PORT of an HTTP server")
	f.Float64Var(&order.Rate, "rate", 100, "connections per second")
	f.Float64Var(&order.Seconds, "seconds", 5, "how long")
	f.IntVar(&order.Workers, "workers", 16, "connections at a time")
	f.BoolVar(&orders, "orders", false, "take runs as JSON lines from standard input; a line \"stop\" ends one early")
	return cmd
}

// serveOrders runs one order after the other, so that the generator's own
// start is not part of what is measured.
func serveOrders(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(in); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	answers := json.NewEncoder(out)
	for text := range lines {
		if text == "stop" {
			continue // the run had ended by itself
		}
		var order loadOrder
		if err := json.Unmarshal([]byte(text), &order); err != nil {
			return fmt.Errorf("load: order %q: %w", text, err)
		}
		result, err := order.runUntil(ctx, lines)
		if err != nil {
			return err
		}
		if err := answers.Encode(result); err != nil {
			return err
		}
	}
	return nil
}

// runUntil runs an order until it is over or the next line comes.
func (o *loadOrder) runUntil(ctx context.Context, lines <-chan string) (*loadResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var result *loadResult
	var err error
	done := make(chan struct{})
	go func() {
		result, err = o.run(ctx)
		close(done)
	}()
	select {
	case <-done:
	case <-lines:
		cancel()
		<-done
	}
	return result, err
}

// run generates the load. It returns early, with what there is, when the
// context ends.
func (o *loadOrder) run(ctx context.Context) (*loadResult, error) {
	if _, _, err := net.SplitHostPort(o.Target); err != nil {
		return nil, usage{fmt.Errorf("load: target: %w", err)}
	}
	total := int(o.Rate * o.Seconds)
	if o.Rate <= 0 || total < 1 || total > maxRequests {
		return nil, usage{fmt.Errorf("load: rate × seconds must be between 1 and %d", maxRequests)}
	}
	if o.Workers <= 0 {
		o.Workers = 16
	}
	tally := newTally(time.Now())
	tokens := make(chan struct{}, o.Workers)
	var wg sync.WaitGroup
	for range o.Workers {
		wg.Go(func() {
			for range tokens {
				begin := time.Now()
				who, err := o.request()
				tally.add(begin, time.Since(begin), who, err)
			}
		})
	}
	o.pace(ctx, total, tokens)
	close(tokens)
	wg.Wait()
	return tally.result(), nil
}

// pace hands out a token for each request at its time. One that finds every
// worker busy is late, never left out.
func (o *loadOrder) pace(ctx context.Context, total int, tokens chan<- struct{}) {
	gap := time.Duration(float64(time.Second) / o.Rate)
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range total {
		if wait := time.Until(begin.Add(time.Duration(i) * gap)); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		select {
		case <-ctx.Done():
			return
		case tokens <- struct{}{}:
		}
	}
}

// request makes one connection and one HTTP request, and returns the first
// line of the answer. The server closes first, so the client's ports are free
// again at once.
func (o *loadOrder) request() (string, error) {
	dialer := net.Dialer{Timeout: dialLimit, KeepAlive: -1}
	conn, err := dialer.Dial("tcp", o.Target)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dialLimit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+o.Target+"\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil {
		return "", err
	}
	head, body, ok := strings.Cut(string(text), "\r\n\r\n")
	if !ok || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		return "", errAnswer
	}
	who, _, _ := strings.Cut(body, "\n")
	return strings.TrimSpace(who), nil
}

var errAnswer = errors.New("not an answer")

// tally counts from all workers.
type tally struct {
	begin time.Time

	mu       sync.Mutex
	micros   []float64 // guarded by mu, as is all that follows
	failures map[string]int
	steps    map[int]*loadStep // by number since begin
}

func newTally(begin time.Time) *tally {
	return &tally{begin: begin, failures: map[string]int{}, steps: map[int]*loadStep{}}
}

func (t *tally) add(begin time.Time, took time.Duration, who string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := int(begin.Sub(t.begin) / stepLength)
	step := t.steps[n]
	if step == nil {
		step = &loadStep{Begin: t.begin.Add(time.Duration(n) * stepLength), Answers: map[string]int{}}
		t.steps[n] = step
	}
	if err != nil {
		t.failures[failure(err)]++
		step.Failed++
		return
	}
	t.micros = append(t.micros, float64(took)/float64(time.Microsecond))
	step.Answers[who]++
}

// failure names the cause of a failed request.
func failure(err error) string {
	var errno syscall.Errno
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, errAnswer):
		return "bad answer"
	case errors.As(err, &errno):
		if name := unix.ErrnoName(errno); name != "" {
			return name
		}
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return err.Error()
}

func (t *tally) result() *loadResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.Sort(t.micros)
	r := &loadResult{
		Requests: len(t.micros), Failures: t.failures,
		P50: quantile(t.micros, 0.50), P99: quantile(t.micros, 0.99), Max: quantile(t.micros, 1),
	}
	for _, n := range t.failures {
		r.Failed += n
	}
	for _, step := range t.steps {
		r.Steps = append(r.Steps, *step)
	}
	slices.SortFunc(r.Steps, func(a, b loadStep) int { return a.Begin.Compare(b.Begin) })
	return r
}

// quantile is a quantile of sorted values; 0 when there are none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
