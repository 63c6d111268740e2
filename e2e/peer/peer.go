package peer

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Result is what a client counted. It is printed as one line of JSON.
type Result struct {
	Connections int            `json:"connections"` // made, or datagrams answered
	Failed      int            `json:"failed"`
	By          map[string]int `json:"by,omitempty"`       // who answered
	Errors      map[string]int `json:"errors,omitempty"`   // what the application saw, by system call
	Peers       map[string]int `json:"peers,omitempty"`    // getpeername, or the source of the answer
	Original    map[string]int `json:"original,omitempty"` // SO_ORIGINAL_DST
	Exchanges   int            `json:"exchanges,omitempty"`
	Slowest     time.Duration  `json:"slowest"` // the longest connect(), failed ones included
	Took        time.Duration  `json:"took"`    // from the first attempt to the end of the last
}

// Rate is how many connections were made in a second, over the client's own time.
func (r *Result) Rate() float64 { return float64(r.Connections) / max(r.Took.Seconds(), 1e-3) }

func (r *Result) add(o *Result) {
	r.Connections += o.Connections
	r.Failed += o.Failed
	r.Exchanges += o.Exchanges
	r.Slowest = max(r.Slowest, o.Slowest)
	for _, m := range []struct{ to, from *map[string]int }{
		{&r.By, &o.By}, {&r.Errors, &o.Errors}, {&r.Peers, &o.Peers}, {&r.Original, &o.Original},
	} {
		for k, n := range *m.from {
			count(m.to, k, n)
		}
	}
}

func count(m *map[string]int, key string, n int) {
	if *m == nil {
		*m = map[string]int{}
	}
	(*m)[key] += n
}

// fail counts an error under the call it came from and its errno.
func (r *Result) fail(call string, err error) {
	r.Failed++
	if errno, ok := err.(unix.Errno); ok {
		err = fmt.Errorf("%s", unix.ErrnoName(errno))
	}
	count(&r.Errors, call+" "+err.Error(), 1)
}

// Main runs a command line and returns the exit code. A client ends with its
// result, also when it is told to stop (SIGINT, SIGTERM).
func Main(args []string, out, errs io.Writer) int {
	commands := map[string]func(context.Context, []string) (*Result, error){
		"serve": serve,
		"dial":  dial,
		"hold":  hold,
		"raw":   raw,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(errs, "usage: peer serve|dial|hold|raw flags…")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	res, err := commands[args[0]](ctx, args[1:])
	if err != nil {
		fmt.Fprintln(errs, "peer "+args[0]+":", err)
		return 1
	}
	if res == nil {
		return 0
	}
	if err := json.NewEncoder(out).Encode(res); err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	return 0
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet("peer "+name, flag.ContinueOnError) }
