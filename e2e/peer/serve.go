package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
)

// serve listens on both families, TCP and UDP, on every port. A TCP client is
// greeted with the server's name and gets back every line that it sends; a
// datagram is answered with the name. At its end it tells how many connections it
// took.
func serve(ctx context.Context, args []string) (*Result, error) {
	fs := newFlags("serve")
	name := fs.String("name", "", "what to answer")
	ports := fs.String("ports", "8080", "ports, separated by commas")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	var taken atomic.Int64
	ended := make(chan error, 1)
	end := func(err error) {
		select {
		case ended <- err:
		default:
		}
	}
	for text := range strings.SplitSeq(*ports, ",") {
		port, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		answer := *name
		if strings.Contains(*ports, ",") {
			answer += ":" + text
		}
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		u, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
		if err != nil {
			return nil, err
		}
		defer u.Close()
		go func() { end(accept(l, answer, &taken)) }()
		go func() { end(answerDatagrams(u, answer)) }()
	}
	select {
	case <-ctx.Done():
		return &Result{Connections: int(taken.Load())}, nil
	case err := <-ended:
		return nil, err
	}
}

func accept(l net.Listener, name string, taken *atomic.Int64) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		taken.Add(1)
		go func() {
			defer c.Close()
			if _, err := c.Write([]byte(name + "\n")); err != nil {
				return // the client went away
			}
			for lines := bufio.NewReader(c); ; {
				line, err := lines.ReadBytes('\n')
				if err != nil {
					return
				}
				if _, err := c.Write(line); err != nil {
					return
				}
			}
		}()
	}
}

func answerDatagrams(u *net.UDPConn, name string) error {
	buf := make([]byte, 2048)
	for {
		_, from, err := u.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // an ICMP error of an answer before
		}
		// An answer that cannot be sent is the client's time-out.
		u.WriteToUDPAddrPort([]byte(name), from)
	}
}
