package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// state is what the sandbox must remember to take everything down again. A
// thing is written here before it is made.
type state struct {
	Name        string                `json:"name"`
	Created     time.Time             `json:"created"`
	Owner       *Process              `json:"owner,omitempty"` // a command that takes the sandbox down when it ends
	Controller  *Process              `json:"controller,omitempty"`
	Kubelet     *Process              `json:"kubelet,omitempty"`
	Nodes       map[string]*nodeState `json:"nodes"`
	Pods        map[string]*podState  `json:"pods"` // by namespace/name
	LastService int                   `json:"lastServiceNumber"`
}

type nodeState struct {
	Agent   *Process `json:"agent,omitempty"`
	LastPod int      `json:"lastPodNumber"`
}

type podState struct {
	Namespace   string       `json:"namespace"`
	Name        string       `json:"name"`
	Node        string       `json:"node"`
	Number      int          `json:"number,omitempty"` // 0: the node's own addresses
	HostNetwork bool         `json:"hostNetwork,omitempty"`
	Spec        string       `json:"spec"` // hash of the spec that was applied
	Addresses   []string     `json:"addresses"`
	Env         []string     `json:"env,omitempty"` // of the first container, for exec
	Dir         string       `json:"dir,omitempty"`
	Phase       string       `json:"phase"` // of the Pod status, or "Starting"
	Reason      string       `json:"reason,omitempty"`
	Ready       bool         `json:"ready"`
	Processes   []podProcess `json:"processes,omitempty"`
}

type podProcess struct {
	Process
	Container string `json:"container"`
	Log       string `json:"log"`
}

// interfaceName is the host side of the pod's interface, in its node.
func (p *podState) interfaceName() string { return fmt.Sprintf("pod%d", p.Number) }

func (p *podState) key() string { return p.Namespace + "/" + p.Name }

// NotUp says that the sandbox is not up.
type NotUp struct{ Name string }

func (e *NotUp) Error() string {
	return fmt.Sprintf("sandbox %s is not up: heddlectl sandbox up", e.Name)
}

// read returns the state without taking the lock: the file is replaced as a
// whole, so what is read is consistent, but it may be outdated at once.
func (s *Sandbox) read() (*state, error) {
	text, err := os.ReadFile(s.stateFile())
	if os.IsNotExist(err) {
		return nil, &NotUp{s.opt.Name}
	}
	if os.IsPermission(err) {
		return nil, fmt.Errorf("sandbox %s belongs to root: run this as root", s.opt.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the sandbox's state: %w", err)
	}
	st := &state{}
	if err := json.Unmarshal(text, st); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): take the sandbox down and up again", s.stateFile(), err)
	}
	return st, nil
}

// session is the right to change the sandbox: it holds the lock.
type session struct {
	s    *Sandbox
	root string // cgroup of the sandbox
	dir  *os.File

	mu sync.Mutex
	// st is guarded by mu: pods start in parallel.
	st *state
}

// create is begin for a sandbox that may not be up yet.
func (s *Sandbox) create(ctx context.Context) (*session, error) {
	for _, dir := range []string{s.opt.Dir, s.ObjectsDir(), s.logDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the sandbox's directory: %w", err)
		}
	}
	x, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	st, err := s.read()
	var notUp *NotUp
	if errors.As(err, &notUp) {
		st, err = &state{
			Name: s.opt.Name, Created: time.Now(),
			Nodes: map[string]*nodeState{}, Pods: map[string]*podState{},
		}, nil
		for _, n := range nodes {
			st.Nodes[n.name] = &nodeState{}
		}
		if s.opt.Owned {
			st.Owner, err = processOf(os.Getpid())
		}
	}
	if err == nil {
		x.st = st
		err = x.save()
	}
	if err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

// begin takes the lock of a sandbox that is up.
func (s *Sandbox) begin(ctx context.Context) (*session, error) {
	if _, err := s.read(); err != nil {
		return nil, err
	}
	x, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	if x.st, err = s.read(); err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

// lock waits for the lock on the sandbox's directory. The lock is the
// directory itself, so that nothing stays behind; a directory that Down has
// removed meanwhile is recognised by its inode.
func (s *Sandbox) lock(ctx context.Context) (*session, error) {
	root, err := s.cgroupRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(s.opt.Dir)
	if os.IsNotExist(err) {
		return nil, &NotUp{s.opt.Name}
	}
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's directory: %w", err)
	}
	if err := flock(ctx, dir); err != nil {
		dir.Close()
		return nil, fmt.Errorf("wait for another command that works on sandbox %s: %w", s.opt.Name, err)
	}
	held, err1 := dir.Stat()
	named, err2 := os.Stat(s.opt.Dir)
	if err1 != nil || err2 != nil || !os.SameFile(held, named) {
		dir.Close()
		return nil, &NotUp{s.opt.Name}
	}
	return &session{s: s, root: root, dir: dir}, nil
}

// flock polls, because flock(2) cannot be interrupted by a context.
func flock(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (x *session) close() { x.dir.Close() }

// update changes the state and writes it down.
func (x *session) update(change func(*state)) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	change(x.st)
	return x.save()
}

// save writes the state. The caller holds mu, or is alone.
func (x *session) save() error {
	text, err := json.MarshalIndent(x.st, "", "  ")
	if err == nil {
		err = replaceFile(x.s.stateFile(), text)
	}
	if err != nil {
		return fmt.Errorf("write the sandbox's state: %w", err)
	}
	return nil
}

// removeTree removes a directory and what is in it.
func removeTree(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// replaceFile writes a file as a whole or not at all. The half-written copy
// has a name that nobody takes for an object.
func replaceFile(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it was renamed
	_, err = tmp.Write(text)
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path) // CreateTemp made it 0600
}
