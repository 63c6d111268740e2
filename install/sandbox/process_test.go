package sandbox

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// withoutFirst makes the test binary a process whose first thread has ended.
const withoutFirst = "HEDDLE_TEST_WITHOUT_FIRST_THREAD"

func init() {
	if os.Getenv(withoutFirst) == "" {
		return
	}
	runtime.LockOSThread() // to the first thread, which runs this
	go func() {
		time.Sleep(time.Minute)
		os.Exit(0)
	}()
	os.Stdout.WriteString("ready\n")
	syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

// A process lives as long as any of its threads, and who has waited for its end
// may take its place.
func TestProcessWithoutFirstThread(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), withoutFirst+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p, err := processOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if !p.Alive() {
			t.Fatalf("the process runs, and was taken for dead at look %d", i+1)
		}
	}
	if err := stop(t.Context(), p, syscall.SIGKILL, "process of this test"); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if p.Alive() {
			t.Fatal("the process has ended, and is taken for alive")
		}
	}
}
