package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"heddle.io/heddle/e2e/bench/load"
	"heddle.io/heddle/install/sandbox"
)

// visit measures a variant once: every kind of traffic, with a server, a client
// and a proxy of its own, which nothing has used before.
func (w *world) visit(ctx context.Context, o *Options, v *Variant) (_ *Visit, err error) {
	limit := patience + time.Duration(len(kinds))*(o.Warm+o.Cell+patience)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	var before, servedBefore uint64
	if v.Mesh {
		if before, err = w.established(ctx, v); err != nil {
			return nil, err
		}
		if servedBefore, err = w.served(ctx, v); err != nil {
			return nil, err
		}
	}
	c, err := w.cast(ctx, o, v)
	if err != nil {
		return nil, err
	}
	defer c.leave()
	target, err := w.target(v)
	if err != nil {
		return nil, err
	}
	clocks, err := w.watch(v, o.cores(), c.proxy)
	if err != nil {
		return nil, err
	}
	out := &Visit{Variant: v.key()}
	for _, k := range kinds {
		order := k.order
		order.Target, order.Warm, order.Seconds = target.String(), o.Warm.Seconds(), o.Cell.Seconds()
		cell, err := c.client.cell(order, clocks)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		cell.Kind = k.name
		out.Cells = append(out.Cells, cell)
		out.Made += cell.Load.Made
	}
	if v.Mesh {
		if out.Established, err = w.confirm(ctx, v, before, out.Made); err != nil {
			return nil, err
		}
		served, err := w.served(ctx, v)
		if err != nil {
			return nil, err
		}
		out.Served = served - servedBefore
	}
	return out, nil
}

// A cast is the processes of one visit.
type cast struct {
	server, client *end
	proxy          *proxy // nil: none
}

// cast starts them, in the order in which they need each other.
func (w *world) cast(ctx context.Context, o *Options, v *Variant) (_ *cast, err error) {
	c, cores := &cast{}, o.cores()
	defer func() {
		if err != nil {
			c.leave()
		}
	}()
	c.server, err = w.startEnd(ctx, o, "server-"+v.slug(), "serve",
		"-cpu="+strconv.Itoa(cores[len(cores)-1]), "-port="+strconv.Itoa(serverPort))
	if err != nil {
		return nil, err
	}
	if line, err := c.server.out.ReadString('\n'); err != nil {
		return nil, fmt.Errorf("the server does not listen: %w: %s", err, &c.server.errs)
	} else if want := fmt.Sprintf("listening on %d\n", serverPort); line != want {
		return nil, fmt.Errorf("the server said %q, not %q", line, want)
	}
	if v.Proxy != "" {
		if c.proxy, err = w.startProxy(ctx, o, v); err != nil {
			return nil, err
		}
	}
	c.client, err = w.startEnd(ctx, o, "client-"+v.slug(), "play", "-cpu="+strconv.Itoa(cores[0]))
	return c, err
}

// leave ends those that were started.
func (c *cast) leave() {
	if c.client != nil {
		c.client.end()
	}
	if c.proxy != nil {
		c.proxy.stop()
	}
	if c.server != nil {
		c.server.end()
	}
}

// confirm checks that the connections went through the mesh: its counter of the
// service must have grown by as many as the client made.
func (w *world) confirm(ctx context.Context, v *Variant, before uint64, made int) (grown uint64, err error) {
	err = eventually(ctx, func() error {
		after, err := w.established(ctx, v)
		if err != nil {
			return err
		}
		if grown = after - before; grown != uint64(made) {
			return fmt.Errorf("the client made %d connections, the mesh counted %d", made, grown)
		}
		return nil
	})
	return grown, err
}

// target is what the client of a variant dials.
func (w *world) target(v *Variant) (netip.AddrPort, error) {
	switch v.Dial {
	case byService:
		return w.services[v], nil
	case byProxy:
		return netip.AddrPortFrom(netip.MustParseAddr(nodeAddress), proxyPort), nil
	}
	return w.serverAddress(v)
}

// An end is a client or a server that runs in a pod.
type end struct {
	cmd  *sandbox.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs bytes.Buffer
}

func (w *world) startEnd(ctx context.Context, o *Options, pod string, args ...string) (*end, error) {
	cmd, err := w.Command(ctx, namespace, pod, append([]string{o.Self}, args...)...)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, load.Quiet)
	e := &end{cmd: cmd}
	cmd.Stderr = &e.errs
	if e.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	e.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s in pod %s: %w", args[0], pod, err)
	}
	return e, nil
}

// end lets the process end: it does when its input does.
func (e *end) end() {
	e.in.Close()
	_ = e.cmd.Wait() // its results were read; how it ends says nothing
}

// cell has the client carry an order out, and reads the clocks around it.
func (e *end) cell(order load.Order, clocks *witness) (*Cell, error) {
	if err := e.say(order); err != nil {
		return nil, err
	}
	if r, err := e.hear(); err != nil {
		return nil, err
	} else if !r.Ready {
		return nil, fmt.Errorf("the client is not ready: %+v", r)
	}
	idle, err := busy(clocks.cores)
	if err != nil {
		return nil, err
	}
	before, err := clocks.read()
	if err != nil {
		return nil, err
	}
	if err := e.say("go"); err != nil {
		return nil, err
	}
	r, err := e.hear()
	if err != nil {
		return nil, err
	}
	after, err := clocks.read()
	if err != nil {
		return nil, err
	}
	used, err := since(before, after)
	if err != nil {
		return nil, err
	}
	worked, err := busy(clocks.cores)
	if err != nil {
		return nil, err
	}
	if r.Count == 0 {
		return nil, fmt.Errorf("nothing was done in %v s", order.Seconds)
	}
	return &Cell{Load: *r, CPU: used, Busy: int64(worked - idle)}, nil
}

func (e *end) say(what any) error {
	if err := json.NewEncoder(e.in).Encode(what); err != nil {
		return fmt.Errorf("tell the client: %w: %s", err, &e.errs)
	}
	return nil
}

func (e *end) hear() (*load.Result, error) {
	line, err := e.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the client does not answer: %w: %s", err, &e.errs)
	}
	var r load.Result
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("the client answers %q: %w", line, err)
	}
	if r.Error != "" {
		return nil, fmt.Errorf("the client failed: %s", r.Error)
	}
	return &r, nil
}
