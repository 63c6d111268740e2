package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A request is one line from the owner of a cluster to a node's process 1.
type request struct {
	Verb    string // stop or start
	Service string
}

// A reply is one line back: to a request, or, before the first, about the
// node's way up.
type reply struct {
	Pid   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
}

// A service is a process that a node keeps.
type service struct {
	name string
	args []string
	pid  int           // 0 while it does not run
	gone chan struct{} // closed when it has ended
	told bool          // to end
}

// A machine is the state of a node's process 1.
type machine struct {
	spec nodeSpec

	// mu is held from the start of a process until it is written down, so that
	// reap knows every process it meets.
	mu       sync.Mutex
	services []*service
	ended    map[int]chan unix.WaitStatus // by pid, of children that are no service
}

// initNode is process 1 of a node. It makes the node's view of the machine,
// starts its services, and then starts and stops them as it is told. It never
// ends by itself.
func initNode(text string) error {
	unix.CloseOnExec(3)
	m := &machine{ended: map[int]chan unix.WaitStatus{}}
	if err := json.Unmarshal([]byte(text), &m.spec); err != nil {
		return err
	}
	control, err := net.FileConn(os.NewFile(3, "control"))
	if err != nil {
		return err
	}
	go m.reap()
	answer(control, m.up())
	for lines := bufio.NewScanner(control); lines.Scan(); {
		var r request
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			err = m.serve(r)
		}
		answer(control, err)
	}
	select {} // the owner is gone, and the kernel about to end this process
}

func answer(control net.Conn, err error) {
	var r reply
	if err != nil {
		r.Error = err.Error()
	}
	_ = json.NewEncoder(control).Encode(r) // nobody to tell: the owner is gone
}

func (m *machine) up() error {
	s := &m.spec
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return err
	}
	os.Clearenv()
	os.Setenv("PATH", s.path())
	os.Setenv("HOME", "/root")
	if err := s.mountAll(); err != nil {
		return fmt.Errorf("make the file systems of %s: %w", s.Name, err)
	}
	if err := forward(s.DualStack); err != nil {
		return err
	}
	if err := s.install(); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", s.Name, err)
	}
	services := []*service{
		{name: Containerd, args: []string{"containerd", "--config", containerdConfig}},
		{name: Kubelet, args: s.kubelet()},
	}
	if s.Proxy != ProxyNone {
		services = append(services, &service{name: KubeProxy, args: s.proxy()})
	}
	m.mu.Lock()
	m.services = services
	m.mu.Unlock()
	for _, service := range services {
		if err := m.start(service); err != nil {
			return err
		}
		if service.name == Containerd {
			if err := m.importImage("pause.tar"); err != nil {
				return err
			}
		}
	}
	return m.importImage("peer.tar")
}

// importImage gives containerd an image, as soon as it takes one.
func (m *machine) importImage(name string) error {
	image := filepath.Join(m.spec.Bin, "images", name)
	for end := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		err := errors.New("containerd does not answer")
		if exists(containerdSocket) {
			err = m.run("import", m.spec.ctr(), "--namespace=k8s.io", "images", "import", image)
		}
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// run waits for a command.
func (m *machine) run(log string, args ...string) error {
	done := make(chan unix.WaitStatus, 1)
	m.mu.Lock()
	pid, err := m.fork(log, args)
	if err == nil {
		m.ended[pid] = done
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if status := <-done; status != 0 {
		return fmt.Errorf("%v: status %#x, see %s", args, status, m.log(log))
	}
	return nil
}

func (m *machine) log(name string) string {
	return filepath.Join(m.spec.Log, m.spec.Name+"-"+name+".log")
}

// fork starts a process that writes to a log outside the node, which outlives it.
func (m *machine) fork(log string, args []string) (int, error) {
	out, err := os.OpenFile(m.log(log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", args[0], err)
	}
	pid := cmd.Process.Pid
	return pid, cmd.Process.Release() // reap waits for it
}

func (m *machine) serve(r request) error {
	i := slices.IndexFunc(m.services, func(s *service) bool { return s.name == r.Service })
	if i < 0 {
		return fmt.Errorf("no service %s runs on %s", r.Service, m.spec.Name)
	}
	switch service := m.services[i]; r.Verb {
	case "stop":
		return m.stop(service)
	case "start":
		return m.start(service)
	}
	return fmt.Errorf("a node cannot %q", r.Verb)
}

func (m *machine) start(s *service) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.pid != 0 {
		return fmt.Errorf("%s runs already", s.name)
	}
	s.told = false
	return m.launch(s)
}

func (m *machine) launch(s *service) error {
	pid, err := m.fork(s.name, s.args)
	if err != nil {
		return err
	}
	s.pid, s.gone = pid, make(chan struct{})
	return nil
}

// again starts a service that has ended by itself.
func (m *machine) again(s *service) {
	time.Sleep(restartAfter)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !s.told && s.pid == 0 {
		if err := m.launch(s); err != nil {
			fmt.Fprintln(os.Stderr, err) // the node's own log
		}
	}
}

// stop ends a service, in the hard way if need be. One that has ended by itself
// is no error: it might as well have been told to.
func (m *machine) stop(s *service) error {
	limit := 5 * time.Second
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		m.mu.Lock()
		pid, gone := s.pid, s.gone
		s.told = true
		if pid != 0 {
			_ = unix.Kill(pid, signal) // not reaped while the lock is held, so still there
		}
		m.mu.Unlock()
		if pid == 0 {
			return nil
		}
		select {
		case <-gone:
			return nil
		case <-time.After(limit):
			limit = patience // nothing outlives the second, but a busy machine takes its time
		}
	}
	return fmt.Errorf("%s does not end", s.name)
}

// reap waits for every child, its own and those whose parents have ended.
func (m *machine) reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	for range children {
		for m.reapOne() {
		}
	}
}

func (m *machine) reapOne() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if pid <= 0 || err != nil {
		return false
	}
	if done, ok := m.ended[pid]; ok {
		delete(m.ended, pid)
		done <- status
	}
	for _, s := range m.services {
		if s.pid == pid {
			s.pid = 0
			close(s.gone)
			if !s.told {
				go m.again(s)
			}
		}
	}
	return true
}
