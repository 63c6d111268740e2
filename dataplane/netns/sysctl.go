package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Sysctl writes a setting below /proc/sys/net, for example "ipv4/ip_forward", of
// the network namespace that the calling thread is in. Call it from inside [Do].
//
// A container sees /proc/sys read-only unless it is privileged. It is so by its
// mount alone, and whoever may enter network namespaces may make another mount:
// one that is nowhere in the tree, and gone when its descriptor is closed.
func Sysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	if errors.Is(err, unix.EROFS) {
		err = sysctlApart(name, value)
	}
	if err != nil {
		return fmt.Errorf("set net/%s: %w", name, err)
	}
	return nil
}

// sysctlApart writes a setting through a mount of its own.
func sysctlApart(name, value string) error {
	proc, err := mountProc()
	if err != nil {
		return fmt.Errorf("/proc/sys is read-only, and %w", err)
	}
	defer unix.Close(proc)
	fd, err := unix.Openat(proc, "sys/net/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}

// mountProc returns a mount of proc that is attached to nothing.
func mountProc() (fd int, err error) {
	runtime.LockOSThread() // what is under way belongs to the thread's namespaces
	defer runtime.UnlockOSThread()
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open another proc (needs CAP_SYS_ADMIN): %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("make another proc: %w", err)
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount another proc (needs CAP_SYS_ADMIN): %w", err)
	}
	return fd, nil
}
