package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A stage is what this binary does under another name, argv[0]. Namespaces and
// cgroups belong to processes, and a program of many threads cannot change all
// of its own: so it starts itself again and again.
const (
	stagePrefix  = "heddle-cluster-"
	stageBoot    = stagePrefix + "boot"    // enters a node's cgroups, then makes its namespaces
	stageInit    = stagePrefix + "init"    // the node's process 1
	stageEnter   = stagePrefix + "enter"   // enters a node
	stageExec    = stagePrefix + "exec"    // becomes a command inside the node
	stageJanitor = stagePrefix + "janitor" // takes away what is left of a cluster
)

// Main has to be the first thing that a program using this package does, a
// test binary in TestMain: it takes over, and never returns, in the processes
// that the package starts from the program's own binary.
func Main() {
	if !strings.HasPrefix(os.Args[0], stagePrefix) {
		return
	}
	runtime.LockOSThread() // children are killed with the thread that started them
	code, err := 0, error(nil)
	switch os.Args[0] {
	case stageBoot:
		err = boot(os.Args[1])
	case stageInit:
		err = initNode(os.Args[1])
	case stageEnter:
		code, err = enter(os.Args[1], os.Args[2:])
	case stageExec:
		err = become(os.Args[2:])
	case stageJanitor:
		err = janitor(os.Args[1])
	default:
		err = fmt.Errorf("no such stage: %s", os.Args[0])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		code = 125
	}
	os.Exit(code)
}

// self is this binary as a stage, with an order for it.
func self(stage string, order any, args ...string) *exec.Cmd {
	text, err := json.Marshal(order)
	if err != nil {
		panic(err) // orders are strings and numbers
	}
	return &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{stage, string(text)}, args...)}
}

// boot is a node's power supply: the node's first process ends with this one.
// A cgroup namespace is rooted where its maker is at that moment, so cgroups
// come before namespaces. Open files: 3 the node's network namespace, 4 the
// connection to the node's process 1.
func boot(text string) error {
	var spec nodeSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	if err := enterCgroups(spec.Cgroups); err != nil {
		return err
	}
	if err := unix.Setns(3, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the node's network namespace: %w", err)
	}
	control := os.NewFile(4, "control")
	cmd := self(stageInit, spec)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{control}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make the node's namespaces: %w", err)
	}
	// The first message on the connection: who process 1 is outside.
	if _, err := fmt.Fprintf(control, `{"pid":%d}`+"\n", cmd.Process.Pid); err != nil {
		return err
	}
	control.Close()
	return cmd.Wait()
}

// An entrance is how to get into a node.
type entrance struct {
	Pid     int // of the node's process 1, outside
	Cgroups []string
}

// enter runs a command inside a node's namespaces and cgroups, and returns its
// exit code.
func enter(text string, args []string) (int, error) {
	var way entrance
	if err := json.Unmarshal([]byte(text), &way); err != nil {
		return 0, err
	}
	if err := enterCgroups(way.Cgroups); err != nil {
		return 0, err
	}
	// All are opened before the first is entered: /proc is another one then.
	kinds := []struct {
		name string
		flag int
	}{
		{"cgroup", unix.CLONE_NEWCGROUP}, {"uts", unix.CLONE_NEWUTS}, {"net", unix.CLONE_NEWNET},
		{"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS},
	}
	files := make([]*os.File, len(kinds))
	for i, kind := range kinds {
		var err error
		if files[i], err = os.Open("/proc/" + strconv.Itoa(way.Pid) + "/ns/" + kind.name); err != nil {
			return 0, fmt.Errorf("the node is down: %w", err)
		}
	}
	// A thread that shares its root directory with others cannot change mounts.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, err
	}
	for i, kind := range kinds {
		if err := unix.Setns(int(files[i].Fd()), kind.flag); err != nil {
			return 0, fmt.Errorf("enter the node's %s namespace: %w", kind.name, err)
		}
	}
	cmd := self(stageExec, nil, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Dir = "/"
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// become turns into a command that ends with enter. That cannot be asked for at
// the start of the process: os/exec makes sure that the parent is still there,
// and one in another PID namespace looks as if it were not.
func become(args []string) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, args, os.Environ())
}
