package semantics

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usual is the limit of a row that names none.
const usual = 5 * time.Second

// grace is how long the threads of a row that hangs have to end once its
// sockets are shut down.
const grace = 2 * time.Second

// Run runs rows, one after the other, and returns an outcome for each. When
// the context ends, the rest is not run, and says so. Needs CAP_SYS_ADMIN to
// enter the namespaces. Concurrent runs need ends of their own.
func Run(ctx context.Context, ends Ends, rows []Row) []Outcome {
	all := make([]Outcome, len(rows))
	for i, r := range rows {
		all[i] = Outcome{Row: r.Name, Group: r.Group, Text: notRun}
		if ctx.Err() == nil {
			began := time.Now()
			all[i].Text, all[i].Hangs = perform(ctx, ends, r, FirstPort+uint16(i%Ports))
			all[i].Took = time.Since(began)
		}
	}
	return all
}

// perform runs one row and returns its text, and whether it hung.
func perform(ctx context.Context, ends Ends, r Row, port uint16) (text string, hung bool) {
	limit := r.Limit
	if limit == 0 {
		limit = usual
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := &stage{ctx: ctx, ends: ends, port: port}
	body := s.start(func() { r.run(s) })
	select {
	case <-body.done:
	case <-ctx.Done():
		s.hangs()
		hung = true
	}
	text = s.text() // what the sockets' end makes the threads say is not of the row

	// Whatever still waits for a socket ends with its connection.
	s.shutdown()
	if s.ended(grace) {
		s.close()
	} // Otherwise a thread still uses the descriptors, and they stay open.
	return text, hung
}

func (s *stage) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.said) == 0 {
		return "nothing"
	}
	return strings.Join(s.said, ", ")
}

// hangs notes that the row did not come to its end.
func (s *stage) hangs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	after := "the start"
	if len(s.said) > 0 {
		after = fmt.Sprintf("%q", strings.Join(s.said, ", "))
	}
	s.said = []string{"hangs after " + after}
}

// shutdown ends every connection without closing a descriptor: threads may be
// in system calls with it.
func (s *stage) shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for _, fd := range s.fds {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // pipes and unconnected sockets have nothing to end
	}
}

// ended waits for all threads of the row.
func (s *stage) ended(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.mu.Lock()
		tasks := s.tasks
		s.tasks = nil
		s.mu.Unlock()
		if len(tasks) == 0 {
			return true
		}
		for _, t := range tasks {
			select {
			case <-t.done:
			case <-timer.C:
				return false
			}
		}
	}
}

func (s *stage) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.fds, s.conns = nil, nil
}
