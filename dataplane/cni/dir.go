package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"heddle.io/heddle/dataplane/cni/plugin"
	"heddle.io/heddle/dataplane/disk"
)

const (
	// wrapper is Heddle's own file, which runtimes read before the others: what
	// the network plugin has in its file, and the entry.
	wrapper = "00-heddle.conflist"
	// maxConf bounds a file of the configuration directory, in bytes.
	maxConf = 1 << 20
	// maxBinary bounds the plugin's binary, in bytes.
	maxBinary = 128 << 20
)

// files lists the configuration files that runtimes know, in their order, apart
// from Heddle's own.
func files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the runtime's CNI configuration: %w", err)
	}
	var names []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.Name() != wrapper && !e.IsDir() && (ext == ".conflist" || ext == ".conf" || ext == ".json") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// errNoNetwork: the runtime has no network yet, so no pod can start.
var errNoNetwork = errors.New("there is no CNI configuration yet")

// chain brings the entry to where the runtime looks. It returns the file of the
// network plugin, and whether anything had to be written. What is to be read
// first is a copy of that file with the entry: when another program writes its
// own again, after the node has started or at any other time, the copy is still
// there and no pod gets by. The file itself has the entry too, for those who
// want theirs to be the only one and remove the copy. One of the two is enough.
func chain(dir string, entry []byte, mayWrite func() bool) (file string, wrote bool, err error) {
	names, err := files(dir)
	if err != nil {
		return "", false, err
	}
	copied := filepath.Join(dir, wrapper)
	if len(names) == 0 {
		// Alone, the copy would be a network that is gone.
		return "", false, errors.Join(errNoNetwork, removeFile(copied))
	}
	path := filepath.Join(dir, names[0])
	text, err := disk.Read(path, maxConf)
	if err != nil {
		return path, false, fmt.Errorf("reading %s: %w", path, err)
	}
	list := filepath.Ext(path) == ".conflist"
	want, err := chained(text, entry, list)
	if err != nil {
		return path, false, fmt.Errorf("the runtime cannot use %s, the first file of its directory: %w; correct or remove it", path, err)
	}
	first := names[0] > wrapper // the copy is read before
	if !first && !list {
		return path, false, fmt.Errorf("%s holds a single plugin and sorts before %s: rename it, as to 10-%s", path, wrapper, names[0])
	}
	var copyErr, ownErr error
	if first {
		var did bool
		did, copyErr = write(copied, want, mayWrite)
		wrote = wrote || did
	}
	if list && !bytes.Equal(text, want) {
		if ownErr = errTooOften; mayWrite() {
			ownErr, wrote = replace(path, text, want), true
		}
	}
	switch {
	case first && copyErr == nil, list && ownErr == nil:
		return path, wrote, nil
	}
	return path, wrote, errors.Join(copyErr, ownErr)
}

// chained is the text of a list of the plugins in text, with entry.
func chained(text, entry []byte, list bool) ([]byte, error) {
	if !list {
		return wrap(text, entry)
	}
	l, err := parse(text)
	if err != nil {
		return nil, err
	}
	if l.others() == 0 {
		return nil, errNoPlugin
	}
	return l.with(entry), nil
}

// write gives a file of Heddle's own its text, if it has another or none.
func write(path string, want []byte, mayWrite func() bool) (wrote bool, err error) {
	now, err := disk.Read(path, maxConf)
	if err == nil && bytes.Equal(now, want) {
		return false, nil
	}
	if !mayWrite() {
		return false, errTooOften
	}
	return true, put(path, want, 0o600, os.Geteuid(), os.Getegid(), always)
}

// fresh ends the name of a file that is being written; runtimes do not read it.
const fresh = ".heddle-new"

// replace turns a file's text from old into text in one step, with the mode and
// the owner it had. When somebody else has written it meanwhile, that stays, and
// is seen as the next change. A link is followed: what it leads to belongs to it.
func replace(path string, old, text []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("following %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("reading the mode of %s: %w", path, err)
	}
	return put(path, text, fs.FileMode(st.Mode&0o777), int(st.Uid), int(st.Gid), func() error {
		if now, err := disk.Read(path, maxConf); err != nil || !bytes.Equal(now, old) {
			return errors.Join(errors.New("another program has just written it; it is looked at again"), err)
		}
		return nil
	})
}

// put writes a file beside path and renames it over it, if last agrees.
func put(path string, text []byte, mode fs.FileMode, uid, gid int, last func() error) error {
	staged := path + fresh
	if err := removeFile(staged); err != nil {
		return err
	}
	f, err := os.OpenFile(staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("writing %s (the directory must be writable for the agent): %w", staged, err)
	}
	_, err = f.Write(text)
	if uid != os.Geteuid() || gid != os.Getegid() { // a right that few agents have
		err = errors.Join(err, f.Chown(uid, gid))
	}
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close(), last())
	if err == nil {
		err = os.Rename(staged, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), removeFile(staged))
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	return nil
}

// install puts the plugin's binary among the others, if it is not there as it
// is here: the one that an agent brings fits that agent.
func install(from, dir string) (wrote bool, err error) {
	want, err := disk.Read(from, maxBinary)
	if err != nil {
		return false, fmt.Errorf("the CNI plugin that belongs to this agent: %w", err)
	}
	path := filepath.Join(dir, plugin.Type)
	now, err := disk.Read(path, maxBinary)
	if err == nil && bytes.Equal(now, want) {
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o111 == 0o111 {
			return false, nil
		}
	}
	return true, put(path, want, 0o755, os.Geteuid(), os.Getegid(), always)
}

func always() error { return nil }

// entryOf is Heddle's entry as text.
func entryOf(socket, policy string) ([]byte, error) {
	return json.Marshal(plugin.Entry{Type: plugin.Type, Socket: socket, Policy: policy})
}
