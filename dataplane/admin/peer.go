package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/procs"
)

// stranger is the reason why a peer may not speak on the CNI socket. A pod with
// the socket mounted could otherwise name any other pod's interface.
type stranger struct{ reason string }

func (s *stranger) Error() string {
	return "this socket is for the container runtime of the node: " + s.reason
}

// peerKey is where a connection's context holds what is wrong with its peer.
type peerKey struct{}

// withPeer remembers who opened a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, checkPeer(c))
}

// checkPeer accepts root, outside of every pod.
func checkPeer(c net.Conn) error {
	if slot, ok := c.(*slotConn); ok {
		c = slot.Conn
	}
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return &stranger{"it is no unix socket"}
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return &stranger{err.Error()}
	}
	refusal := errors.New("not checked")
	if err := raw.Control(func(fd uintptr) { refusal = checkSocket(int(fd)) }); err != nil {
		return &stranger{err.Error()}
	}
	return refusal
}

func checkSocket(fd int) error {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	switch {
	case err != nil:
		return &stranger{fmt.Sprintf("who it is cannot be read: %v", err)}
	case peer.Uid != 0:
		return &stranger{fmt.Sprintf("process %d is not root but user %d", peer.Pid, peer.Uid)}
	case peer.Pid == 0:
		return &stranger{"its process is in a pid namespace that the agent does not see (the agent needs hostPID)"}
	}
	// The number may have gone to another process since the connection was made;
	// where the kernel tells (Linux 6.5), the one that made it must still be there.
	pidfd, pidfdErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if pidfdErr == nil {
		defer unix.Close(pidfd)
	}
	cgroups, err := os.ReadFile(processFile(peer.Pid, "cgroup"))
	if err != nil {
		return &stranger{fmt.Sprintf("process %d is gone: %v", peer.Pid, err)}
	}
	// One that has ended and is not waited for stands in no cgroup of the older
	// hierarchies, wherever it was. What was read before it ended is right.
	if ended(peer.Pid) {
		return &stranger{fmt.Sprintf("process %d has ended", peer.Pid)}
	}
	if pidfdErr == nil {
		if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
			return &stranger{fmt.Sprintf("process %d has ended", peer.Pid)}
		}
	}
	if uid := procs.UID(string(cgroups), ""); uid != "" {
		return &stranger{fmt.Sprintf("process %d belongs to the pod with uid %s", peer.Pid, uid)}
	}
	return nil
}

func processFile(pid int32, name string) string {
	return "/proc/" + strconv.Itoa(int(pid)) + "/" + name
}

// ended reports whether a process has ended, waited for or not: the state after
// its name, which may have parentheses, is one of the dead.
func ended(pid int32) bool {
	stat, err := os.ReadFile(processFile(pid, "stat"))
	state := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
	return err != nil || len(state) == 0 || bytes.IndexByte([]byte("ZXx"), state[0]) >= 0
}

// known lets requests of strangers end with the reason.
func known(m *Metrics, refused func(error), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err, _ := r.Context().Value(peerKey{}).(error); err != nil {
			m.strangers.Inc()
			refused(err)
			fail(w, http.StatusForbidden, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}
