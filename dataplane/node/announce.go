package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"time"

	api "heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/admin"
	"heddle.io/heddle/dataplane/enroll"
)

// Announce implements admin.Node. When it fails because the time is up, the
// pod stays in the list: it is enrolled as soon as that is possible, and its
// runtime may announce it again.
func (n *Node) Announce(ctx context.Context, r api.PodRequest) (api.Pod, error) {
	timeout, err := announceTime(r.TimeoutSeconds)
	if err != nil {
		return api.Pod{}, &admin.Failure{Status: http.StatusBadRequest, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	p, err := podOf(r)
	if err != nil {
		return api.Pod{}, &admin.Failure{Status: http.StatusBadRequest, Err: err}
	}
	if p.Interface == "" {
		return n.outsideOnly(ctx, p, timeout)
	}
	n.wait(p.Key(), 1)
	defer n.wait(p.Key(), -1)
	p, err = n.pods.Announce(p)
	switch {
	case errors.Is(err, enroll.ErrInvalid):
		return api.Pod{}, &admin.Failure{Status: http.StatusBadRequest, Err: err}
	case errors.Is(err, enroll.ErrFull):
		return api.Pod{}, &admin.Failure{Status: http.StatusInsufficientStorage, Err: err}
	case err != nil:
		return api.Pod{}, err
	}
	grace, stop := n.graceOver()
	defer stop()
	for {
		s, changed := n.seen()
		m, listed := s.member(p.Key())
		listed = listed && m.Cookie == p.Cookie && m.Ifindex == p.Ifindex
		if listed && (m.Standing == enroll.Outside && n.current(s) || s.programmed(m)) {
			return s.pod(m), nil
		}
		select {
		case <-changed:
		case <-grace:
		case <-ctx.Done():
			return api.Pod{}, &admin.Failure{Status: http.StatusGatewayTimeout, Err: n.tooLate(p, timeout)}
		}
	}
}

func podOf(r api.PodRequest) (enroll.Pod, error) {
	p := enroll.Pod{Namespace: r.Namespace, Name: r.Name, UID: r.UID, Netns: r.Netns, Interface: r.Interface}
	for _, text := range r.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return p, fmt.Errorf("addresses: %w", err)
		}
		p.Addresses = append(p.Addresses, a)
	}
	return p, nil
}

// current reports whether a pod may be let go as outside the mesh: not by a
// state from the disk as long as the control plane may still say otherwise.
func (n *Node) current(s *now) bool {
	return !s.cached || !time.Now().Before(n.loop.graceEnds)
}

// graceOver delivers once when the control plane has had its time.
func (n *Node) graceOver() (over <-chan time.Time, stop func() bool) {
	t := time.NewTimer(time.Until(n.loop.graceEnds))
	return t.C, t.Stop
}

// outsideOnly answers for a pod whose interface cannot be guarded: it may start
// when it is not in the mesh.
func (n *Node) outsideOnly(ctx context.Context, p enroll.Pod, timeout time.Duration) (api.Pod, error) {
	grace, stop := n.graceOver()
	defer stop()
	for {
		s, changed := n.seen()
		if s.view != nil {
			if m := enroll.Join([]enroll.Pod{p}, s.view.Snapshot)[0]; m.Mesh() {
				return api.Pod{}, &admin.Failure{Status: http.StatusUnprocessableEntity, Err: fmt.Errorf(
					"pod %s is in the mesh, but its interface has no side on the node that could be guarded (it is no veth): use a CNI plugin that makes one, or label the pod heddle.io/mesh=disabled", p.Key())}
			} else if m.Standing == enroll.Outside && n.current(s) {
				return api.Pod{Namespace: p.Namespace, Name: p.Name, Reason: m.Reason}, nil
			}
		}
		select {
		case <-changed:
		case <-grace:
		case <-ctx.Done():
			return api.Pod{}, &admin.Failure{Status: http.StatusGatewayTimeout, Err: fmt.Errorf(
				"pod %s: the control plane did not name it within %v", p.Key(), timeout)}
		}
	}
}

func announceTime(seconds float64) (time.Duration, error) {
	switch {
	case seconds == 0:
		return announceTimeout, nil
	case math.IsNaN(seconds), seconds < 0, seconds > admin.MaxAnnounce.Seconds():
		return 0, fmt.Errorf("timeoutSeconds is %v, it must be 0 to %v", seconds, admin.MaxAnnounce.Seconds())
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// tooLate says what an announcement was waiting for.
func (n *Node) tooLate(p enroll.Pod, timeout time.Duration) error {
	key := p.Key()
	s, _ := n.seen()
	m, listed := s.member(key)
	_, announced := n.pods.Find(p.Namespace, p.Name)
	switch {
	case !announced:
		return fmt.Errorf("pod %s was removed while it was being announced", key)
	case !listed:
		return fmt.Errorf("pod %s: the agent did not come to it within %v, so much else there is to do; announce it again", key, timeout)
	case m.Standing != enroll.Unknown:
		return fmt.Errorf("pod %s is in the mesh but could not be programmed within %v: %s", key, timeout, s.pod(m).Reason)
	}
	status := n.feed.Status()
	if !status.Connected {
		return fmt.Errorf("pod %s: the control plane at %s did not answer within %v (%s); start it, or check --server",
			key, status.Server, timeout, status.Error)
	}
	return fmt.Errorf("pod %s: the control plane did not name it on node %s within %v; check that the Pod exists and that its nodeName is %s",
		key, n.c.Node, timeout, n.c.Node)
}

// wait counts announcements that wait for a pod.
func (n *Node) wait(key string, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.waiting[key] += by
	if n.mu.waiting[key] == 0 {
		delete(n.mu.waiting, key)
	}
}

func (n *Node) isWaiting(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.waiting[key] > 0
}
