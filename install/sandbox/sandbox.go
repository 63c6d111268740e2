package sandbox

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"heddle.io/heddle/install/client"
)

// DefaultName is the sandbox that heddlectl looks for when it is told none.
const DefaultName = "heddle"

// MaxPods bounds a sandbox: each pod is a namespace, a cgroup and processes of
// this one machine.
const MaxPods = 64

// Options say where a sandbox lives and which binaries it runs.
type Options struct {
	// Name is the prefix of everything the sandbox makes. Default: "heddle".
	Name string
	// Dir holds sockets, objects, logs and the state file. Default:
	// /run/NAME-sandbox.
	Dir string
	// Bin is the directory where heddled, heddle-controller and heddlectl are
	// looked up first, and that is first on the pods' PATH.
	Bin string
	// Path is the search path after Bin, for our binaries and for the pods.
	// Default: the usual system directories.
	Path string
	// AgentArgs and ControllerArgs are appended to the command lines.
	AgentArgs, ControllerArgs []string
	// Owned ties the sandbox to this process: when the process is gone without
	// Down or Release, others see that it is Abandoned.
	Owned bool
	// Progress gets a line for each step worth showing; nil: silent.
	Progress func(line string)
}

// Sandbox is a handle on a sandbox that may or may not be up. Its methods may
// be used concurrently and from several processes: those that change something
// take turns by a lock on the directory.
type Sandbox struct {
	opt Options
}

var nameRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// New returns a handle. It touches nothing.
func New(opt Options) (*Sandbox, error) {
	if opt.Name == "" {
		opt.Name = DefaultName
	}
	// Down finds what a sandbox left behind by name: "-pod" would make one
	// sandbox's namespaces look like another's pods.
	if !nameRE.MatchString(opt.Name) || strings.Contains(opt.Name, "-pod") {
		return nil, fmt.Errorf("sandbox name %q: use up to 32 lower-case letters, digits and dashes, and not -pod", opt.Name)
	}
	if opt.Dir == "" {
		opt.Dir = "/run/" + opt.Name + "-sandbox"
	}
	if !filepath.IsAbs(opt.Dir) {
		return nil, fmt.Errorf("sandbox directory %q: give an absolute path", opt.Dir)
	}
	if opt.Path == "" {
		opt.Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	if opt.Progress == nil {
		opt.Progress = func(string) {}
	}
	return &Sandbox{opt: opt}, nil
}

// Name is the sandbox's name.
func (s *Sandbox) Name() string { return s.opt.Name }

// Dir is the sandbox's directory.
func (s *Sandbox) Dir() string { return s.opt.Dir }

// ObjectsDir is the directory that the controller reads. A test may write
// files of its own there; the sandbox only touches those it wrote.
func (s *Sandbox) ObjectsDir() string { return filepath.Join(s.opt.Dir, "objects") }

// AgentSocket is the admin socket of a node's agent.
func (s *Sandbox) AgentSocket(node string) string {
	return filepath.Join(s.opt.Dir, node, "agent.sock")
}

// ControllerSocket is the admin socket of the controller.
func (s *Sandbox) ControllerSocket() string { return filepath.Join(s.opt.Dir, "controller.sock") }

// Agent is a client of a node's agent.
func (s *Sandbox) Agent(node string) *client.Agent { return client.NewAgent(s.AgentSocket(node)) }

// Controller is a client of the controller.
func (s *Sandbox) Controller() *client.Controller {
	return client.NewController(s.ControllerSocket())
}

// Nodes are the names of the sandbox's nodes.
func (s *Sandbox) Nodes() []string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.name
	}
	return names
}

// NodeNetns is the path of a node's network namespace.
func (s *Sandbox) NodeNetns(node string) string { return netnsPath(s.nodeNetns(node)) }

// IsUp reports whether the sandbox was brought up (and not taken down since).
// It does not say that every process is alive: see Pods, and the admin sockets.
func (s *Sandbox) IsUp() (bool, error) {
	_, err := os.Stat(s.stateFile())
	switch {
	case os.IsNotExist(err):
		return false, nil
	case os.IsPermission(err):
		return false, fmt.Errorf("sandbox %s belongs to root: run this as root", s.opt.Name)
	case err != nil:
		return false, fmt.Errorf("look for sandbox %s: %w", s.opt.Name, err)
	}
	return true, nil
}

// Own returns a handle that ties the sandbox, when it brings it up, to this
// process: see Abandoned.
func (s *Sandbox) Own() *Sandbox {
	own := *s
	own.opt.Owned = true
	return &own
}

// Abandoned reports whether the sandbox belongs to a process that is gone.
func (s *Sandbox) Abandoned() (bool, error) {
	st, err := s.read()
	if err != nil {
		return false, err
	}
	return st.Owner != nil && !st.Owner.Alive(), nil
}

// Release lets the sandbox outlive the process that owns it.
func (s *Sandbox) Release(ctx context.Context) error {
	x, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer x.close()
	return x.update(func(st *state) { st.Owner = nil })
}

// Log is the path of the log of a component ("controller", "kubelet", "node1") or of a
// pod's container ("namespace/pod" or "namespace/pod/container").
func (s *Sandbox) Log(of string) (string, error) {
	if of == "controller" || of == "kubelet" || findNode(of) != nil {
		return s.daemonLog(of), nil
	}
	part := strings.Split(of, "/")
	if len(part) != 2 && len(part) != 3 {
		return "", fmt.Errorf("log of %q: name a pod (namespace/name), a container (namespace/pod/container), a node or the controller", of)
	}
	st, err := s.read()
	if err != nil {
		return "", err
	}
	pod := st.Pods[part[0]+"/"+part[1]]
	if pod == nil {
		return "", noPod(part[0]+"/"+part[1], s.opt.Name)
	}
	for _, p := range pod.Processes {
		if len(part) == 2 || p.Container == part[2] {
			return p.Log, nil
		}
	}
	return "", fmt.Errorf("log of %s: no such container was started", of)
}

func noPod(ref, name string) error {
	return fmt.Errorf("no pod %s in sandbox %s: see heddlectl sandbox ps", ref, name)
}

func (s *Sandbox) stateFile() string          { return filepath.Join(s.opt.Dir, "state.json") }
func (s *Sandbox) logDir() string             { return filepath.Join(s.opt.Dir, "log") }
func (s *Sandbox) daemonLog(of string) string { return filepath.Join(s.logDir(), of+".log") }
func (s *Sandbox) xdsSocket() string          { return filepath.Join(s.opt.Dir, "xds.sock") }
func (s *Sandbox) nodeNetns(node string) string {
	return s.opt.Name + "-" + node
}

// podNetns is the name of a pod's network namespace. Neither part can contain
// an underscore.
func (s *Sandbox) podNetns(namespace, name string) string {
	return s.opt.Name + "-pod-" + namespace + "_" + name
}

// cgroupRoot is the cgroup of everything the sandbox runs.
func (s *Sandbox) cgroupRoot() (string, error) {
	mount, err := cgroup2Mount()
	if err != nil {
		return "", err
	}
	return filepath.Join(mount, s.opt.Name+"-sandbox"), nil
}

// pinsRoot is where the agents pin. The agent mounts the BPF file system
// there when it is missing.
func (s *Sandbox) pinsRoot() string {
	return filepath.Join("/sys/fs/bpf", s.opt.Name+"-sandbox")
}

// binary finds one of our programs.
func (s *Sandbox) binary(name string) (string, error) {
	path, err := lookPath(name, s.searchPath())
	if err != nil {
		return "", fmt.Errorf("%s is neither in %s nor on the PATH: build all binaries into one directory (make build)", name, s.opt.Bin)
	}
	return path, nil
}

func (s *Sandbox) searchPath() string {
	if s.opt.Bin == "" {
		return s.opt.Path
	}
	return s.opt.Bin + ":" + s.opt.Path
}

// lookPath finds an executable in the directories of a search path, or takes a
// name with a slash as it is.
func lookPath(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &fs.PathError{Op: "find", Path: name, Err: fmt.Errorf("not in %s", path)}
}

func (s *Sandbox) progress(format string, args ...any) {
	s.opt.Progress(fmt.Sprintf(format, args...))
}
