package enroll

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"heddle.io/heddle/dataplane/disk"
)

// Pod is a pod that was announced.
type Pod struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Netns     string    `json:"netns"` // path; empty when it was found again in the kernel only
	Cookie    uint64    `json:"cookie"`
	Interface string    `json:"interface"` // host side
	Ifindex   uint32    `json:"ifindex"`
	Announced time.Time `json:"announced"`
	// UID is the Pod object's; empty when nobody said.
	UID string `json:"uid,omitempty"`
	// Addresses are those that the network plugin gave the pod, see Member.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Late: it started unannounced although every pod should have been.
	Late bool `json:"late,omitempty"`
}

// Key is the pod's xDS resource name.
func (p Pod) Key() string { return p.Namespace + "/" + p.Name }

func compare(a, b Pod) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Host looks at the machine; a test may stand in for it.
type Host interface {
	Cookie(path string) (uint64, error) // of the network namespace at path
	OwnCookie() (uint64, error)         // of the agent's own network namespace
	Ifindex(name string) (uint32, error)
	Interface(ifindex uint32) (name string, err error)
}

// Options of a Registry.
type Options struct {
	File    string // where the pods are kept
	MaxPods int
	Host    Host
	Log     *slog.Logger
	// Programmed is what the kernel's tables hold when the agent starts: the
	// namespace's cookie by interface. They do not outlive a boot.
	Programmed map[uint32]uint64
}

// Registry is the list of announced pods. Safe for concurrent use.
type Registry struct {
	o       Options
	own     uint64 // cookie of the agent's network namespace
	changed chan struct{}

	mu struct {
		sync.Mutex
		pods    map[string]Pod // by key
		orphans []Orphan
	}
}

// Errors of Announce that are the caller's fault.
var (
	ErrInvalid = errors.New("invalid pod")
	ErrFull    = errors.New("too many pods")
)

// maxFile bounds the file of announced pods.
const maxFile = 16 << 20

type file struct {
	Version int   `json:"version"`
	Pods    []Pod `json:"pods"`
}

// Open reads the pods that were announced to earlier agents and drops those
// that are gone: whose network namespace or interface is no longer the one
// that was announced. lost is not nil when there is no file (fs.ErrNotExist) or
// it cannot be used; the registry is empty then, and the caller should Adopt
// what the kernel has.
func Open(o Options) (r *Registry, lost, err error) {
	own, err := o.Host.OwnCookie()
	if err != nil {
		return nil, nil, fmt.Errorf("reading the agent's own network namespace: %w", err)
	}
	r = &Registry{o: o, own: own, changed: make(chan struct{}, 1)}
	r.mu.pods = make(map[string]Pod)
	data, err := disk.Read(o.File, maxFile)
	pods, lost := parse(data, err)
	if lost != nil {
		return r, fmt.Errorf("list of pods %s is not usable: %w", o.File, lost), nil
	}
	for _, p := range pods {
		if err := r.same(p); err != nil {
			o.Log.Info("pod is gone", "pod", p.Key(), "reason", err)
			continue
		}
		r.mu.pods[p.Key()] = p
	}
	return r, nil, nil
}

// parse reads the file's contents, given the result of reading it.
func parse(data []byte, err error) ([]Pod, error) {
	if err != nil {
		return nil, err
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("version %d is unknown to this agent", f.Version)
	}
	for _, p := range f.Pods {
		if err := checkPod(p); err != nil {
			return nil, err
		}
	}
	return f.Pods, nil
}

// same checks that what was announced is still there.
func (r *Registry) same(p Pod) error {
	if err := r.sameInterface(p); err != nil {
		return err
	}
	if p.Netns == "" { // found again in the kernel; the interface must do
		return nil
	}
	cookie, err := r.o.Host.Cookie(p.Netns)
	if err != nil {
		// A running pod may have lost the path. Its end of the interface
		// lives as long as its namespace, and the tables tell that this is
		// still the boot in which both were announced.
		if known, ok := r.o.Programmed[p.Ifindex]; ok && known == p.Cookie {
			return nil
		}
		return err
	}
	if cookie != p.Cookie {
		return fmt.Errorf("%s is another network namespace now", p.Netns)
	}
	return nil
}

func (r *Registry) sameInterface(p Pod) error {
	ifindex, err := r.o.Host.Ifindex(p.Interface)
	if err != nil {
		return err
	}
	if ifindex != p.Ifindex {
		return fmt.Errorf("%s is another interface now", p.Interface)
	}
	return nil
}

// Changed delivers a value after the list changed. Capacity 1: several changes
// may be told as one.
func (r *Registry) Changed() <-chan struct{} { return r.changed }

func (r *Registry) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Announce adds or replaces a pod after checking it against the machine. Cookie,
// Ifindex and Announced of p are not read. It is in the list, and on disk, when
// Announce returns.
func (r *Registry) Announce(p Pod) (Pod, error) {
	p.Cookie, p.Ifindex, p.Announced = 0, 0, time.Time{}
	if err := checkPod(p); err != nil {
		return p, err
	}
	if p.Netns == "" {
		return p, fmt.Errorf("%w: netns is empty", ErrInvalid)
	}
	var err error
	if p.Cookie, err = r.o.Host.Cookie(p.Netns); err != nil {
		return p, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if p.Cookie == r.own {
		return p, fmt.Errorf("%w: %s is the node's own network namespace (hostNetwork), which is never captured", ErrInvalid, p.Netns)
	}
	if p.Ifindex, err = r.o.Host.Ifindex(p.Interface); err != nil {
		return p, fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.mu.pods[p.Key()]
	if known && old.Cookie == p.Cookie && old.Ifindex == p.Ifindex {
		if old.Netns == p.Netns && old.UID == p.UID && slices.Equal(old.Addresses, p.Addresses) {
			return old, nil // announced again: nothing to do
		}
		p = old.with(p)
	}
	if !known && len(r.mu.pods) >= r.o.MaxPods {
		return p, fmt.Errorf("%w: the limit of %d is reached (raise --max-pods)", ErrFull, r.o.MaxPods)
	}
	if err := r.conflictLocked(p); err != nil {
		return p, err
	}
	if p.Announced.IsZero() {
		p.Announced = time.Now()
	}
	r.mu.pods[p.Key()] = p
	if err := r.saveLocked(); err != nil {
		delete(r.mu.pods, p.Key())
		if known {
			r.mu.pods[p.Key()] = old
		}
		return p, err
	}
	r.mu.orphans = slices.DeleteFunc(r.mu.orphans, func(o Orphan) bool { return o.Ifindex == p.Ifindex })
	r.tell()
	return p, nil
}

// with is the pod after an announcement that says less, more or otherwise of
// the same namespace and interface.
func (p Pod) with(said Pod) Pod {
	p.Netns, p.Interface = said.Netns, said.Interface
	if said.UID != "" {
		p.UID = said.UID
	}
	if len(said.Addresses) > 0 {
		p.Addresses = said.Addresses
	}
	return p
}

// conflictLocked refuses what two pods cannot share.
func (r *Registry) conflictLocked(p Pod) error {
	for key, other := range r.mu.pods {
		switch {
		case key == p.Key():
		case other.Ifindex == p.Ifindex:
			return fmt.Errorf("%w: interface %s belongs to pod %s", ErrInvalid, p.Interface, key)
		case other.Cookie == p.Cookie:
			return fmt.Errorf("%w: network namespace %s belongs to pod %s", ErrInvalid, p.Netns, key)
		}
	}
	return nil
}

// Forget removes the pod of gone's name; false when it is not in the list, or
// when the one in the list is another: gone's UID and Netns, where given, say
// which is meant. The end of an old sandbox is often told after the start of
// the new one. The removal is on disk when Forget returns.
func (r *Registry) Forget(gone Pod) (bool, error) {
	key := gone.Key()
	cookie, readable := r.cookieOf(gone.Netns)
	r.mu.Lock()
	defer r.mu.Unlock()
	old, ok := r.mu.pods[key]
	switch {
	case !ok:
		return false, nil
	case gone.UID != "" && old.UID != "" && gone.UID != old.UID:
		return false, nil
	case gone.Netns == "": // a runtime that lost its notes; nothing contradicts
	case readable && cookie != old.Cookie:
		return false, nil
	case !readable && old.Netns != "" && !samePath(gone.Netns, old.Netns):
		return false, nil
	}
	delete(r.mu.pods, key)
	if err := r.saveLocked(); err != nil {
		r.mu.pods[key] = old
		return true, err
	}
	r.tell()
	return true, nil
}

func (r *Registry) cookieOf(path string) (uint64, bool) {
	if path == "" {
		return 0, false
	}
	cookie, err := r.o.Host.Cookie(path)
	return cookie, err == nil
}

// samePath compares paths of network namespaces; /var/run is /run wherever pods
// run.
func samePath(a, b string) bool {
	return strings.TrimPrefix(a, "/var") == strings.TrimPrefix(b, "/var")
}

// Sweep drops the pods whose interface is gone: nobody announces that a
// runtime crashed. The namespace's path is not looked at, a running pod may
// have lost it.
func (r *Registry) Sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	dropped := 0
	for key, p := range r.mu.pods {
		if err := r.sameInterface(p); err != nil {
			r.o.Log.Info("pod is gone", "pod", key, "reason", err)
			delete(r.mu.pods, key)
			dropped++
		}
	}
	if dropped == 0 {
		return
	}
	if err := r.saveLocked(); err != nil {
		// The next start drops them again.
		r.o.Log.Warn("list of pods cannot be written", "error", err)
	}
	r.tell()
}

// Pods returns a copy of the list, in no particular order.
func (r *Registry) Pods() []Pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Pod, 0, len(r.mu.pods))
	for _, p := range r.mu.pods {
		out = append(out, p)
	}
	return out
}

// Find returns a pod by its name.
func (r *Registry) Find(namespace, name string) (Pod, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.mu.pods[Pod{Namespace: namespace, Name: name}.Key()]
	return p, ok
}

func (r *Registry) saveLocked() error {
	f := file{Version: 1, Pods: []Pod{}}
	for _, p := range r.mu.pods {
		f.Pods = append(f.Pods, p)
	}
	slices.SortFunc(f.Pods, compare)
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the list of pods: %w", err)
	}
	if err := disk.Write(r.o.File, append(data, '\n')); err != nil {
		return fmt.Errorf("keeping the list of pods: %w", err)
	}
	return nil
}
