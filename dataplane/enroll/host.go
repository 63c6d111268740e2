package enroll

import (
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/netns"
)

// Machine is the Host that the agent runs on.
type Machine struct{}

// nodeRoot is the node's own file system, as its first process sees it. An agent
// in a pod reaches what a runtime mounts there without mounting it too.
const nodeRoot = "/proc/1/root"

// Cookie returns the cookie of the network namespace at path, a path on the
// node. The agent's own file system comes first; it may have a /run of the
// node's, and no /var/run.
func (Machine) Cookie(path string) (uint64, error) {
	cookie, err := netns.Cookie(path)
	if err == nil {
		return cookie, nil
	}
	for _, other := range []string{strings.TrimPrefix(path, "/var"), nodeRoot + path} {
		if cookie, again := netns.Cookie(other); again == nil {
			return cookie, nil
		}
	}
	return 0, err
}

// OwnCookie returns the cookie of the process's network namespace. Not that of
// /proc/self: the main thread may be on an errand in a pod.
func (Machine) OwnCookie() (uint64, error) { return netns.Cookie("/proc/thread-self/ns/net") }

// Ifindex returns the index of an interface in the agent's network namespace.
// One ioctl: the net package would list every interface of the node.
func (Machine) Ifindex(name string) (uint32, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("creating a socket: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
	}
	if err != nil {
		return 0, fmt.Errorf("interface %s in the agent's network namespace: %w", name, err)
	}
	return request.Uint32(), nil
}

// Interface returns the name of an interface in the agent's network namespace.
func (Machine) Interface(ifindex uint32) (string, error) {
	i, err := net.InterfaceByIndex(int(ifindex))
	if err != nil {
		return "", fmt.Errorf("interface %d in the agent's network namespace: %w", ifindex, err)
	}
	return i.Name, nil
}
