package sandbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// lookInterval is how often the processes of the pods are looked at.
const lookInterval = 100 * time.Millisecond

// Watch does what kubelet does once pods run: a pod whose process has ended, or
// whose readiness probe fails, is no longer ready, so its endpoint goes; one
// whose probe succeeds again is. Nothing is restarted. Up starts it as a
// process (heddlectl sandbox watch); it returns when the sandbox is down or
// the context ends.
func (s *Sandbox) Watch(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	probes := map[string]*probeState{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		st, err := s.read()
		var notUp *NotUp
		if errors.As(err, &notUp) {
			return nil
		}
		if err != nil {
			return err
		}
		for key, p := range st.Pods {
			if p.Phase != phaseRunning {
				continue
			}
			ready, reason, err := s.look(ctx, p, probes)
			if err == nil && ready != p.Ready {
				err = s.setReady(ctx, p, ready, reason)
			}
			if err != nil {
				s.progress("look after pod %s: %v", key, err)
			}
		}
	}
}

// probeState is when a pod's probes are due and what they said.
type probeState struct {
	first  Process // of the pod: another one is another pod
	due    time.Time
	failed int
}

// look finds out whether a running pod is ready, without changing anything.
func (s *Sandbox) look(ctx context.Context, p *podState, probes map[string]*probeState) (ready bool, reason string, err error) {
	for _, proc := range p.Processes {
		if !proc.Alive() {
			return false, fmt.Sprintf("process %d of container %s has ended (heddlectl sandbox logs %s)", proc.PID, proc.Container, p.key()), nil
		}
	}
	if len(p.Processes) == 0 {
		return p.Ready, "", nil
	}
	state := probes[p.key()]
	now := time.Now()
	if state == nil || state.first != p.Processes[0].Process {
		// The pod was probed when it started.
		state = &probeState{first: p.Processes[0].Process, due: now.Add(time.Second)}
		probes[p.key()] = state
	}
	if now.Before(state.due) {
		return p.Ready, "", nil
	}
	o, err := s.load((&object{kind: "Pod", namespace: p.Namespace, name: p.Name}).key())
	if err != nil || o == nil || o.pod == nil || o.pod.DeletionTimestamp != nil {
		return p.Ready, "", err
	}
	period, threshold := probeTerms(&o.pod.Spec)
	state.due = now.Add(period)
	for i := range o.pod.Spec.Containers {
		c := &o.pod.Spec.Containers[i]
		if c.ReadinessProbe == nil {
			continue
		}
		if err := s.probe(ctx, o.pod, c, p); err != nil {
			if state.failed++; state.failed < threshold {
				return p.Ready, "", nil
			}
			return false, fmt.Sprintf("container %s is not ready: %v", c.Name, err), nil
		}
	}
	state.failed = 0
	return true, "", nil
}

// probeTerms are the shortest period of the containers' probes and the number
// of failures that count, with the defaults of Kubernetes.
func probeTerms(spec *corev1.PodSpec) (time.Duration, int) {
	period, threshold := int32(10), int32(3)
	for _, c := range spec.Containers {
		if c.ReadinessProbe != nil && c.ReadinessProbe.PeriodSeconds > 0 {
			period = min(period, c.ReadinessProbe.PeriodSeconds)
		}
		if c.ReadinessProbe != nil && c.ReadinessProbe.FailureThreshold > 0 {
			threshold = min(threshold, c.ReadinessProbe.FailureThreshold)
		}
	}
	return time.Duration(period) * time.Second, int(threshold)
}

// setReady changes a pod, unless it was deleted or made anew meanwhile.
func (s *Sandbox) setReady(ctx context.Context, seen *podState, ready bool, reason string) error {
	x, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer x.close()
	p := x.st.Pods[seen.key()]
	if p == nil || p.Phase != phaseRunning || len(p.Processes) == 0 || p.Processes[0] != seen.Processes[0] {
		return nil
	}
	o, err := s.load((&object{kind: "Pod", namespace: p.Namespace, name: p.Name}).key())
	if err != nil || o == nil || o.pod == nil {
		return err
	}
	err = x.update(func(*state) {
		p.Ready, p.Reason = ready, reason
		if !p.alive() {
			// How it ended is known to its parent only, which is long gone.
			p.Phase = phaseFailed
		}
	})
	if err != nil {
		return err
	}
	describePod(o.pod, p, time.Now())
	_, err = s.write(o)
	return err
}

// ensureKubelet starts Watch as a process of the sandbox, so that Down ends it
// with all others.
func (x *session) ensureKubelet() error {
	if x.st.Kubelet.Alive() {
		return nil
	}
	binary, err := x.s.binary("heddlectl")
	if err != nil {
		return err
	}
	l := launch{
		cgroup: filepath.Join(x.root, "kubelet"),
		argv:   []string{binary, "sandbox", "watch", "--sandbox", x.s.opt.Name, "--sandbox-dir", x.s.opt.Dir},
		env:    []string{"PATH=" + x.s.opt.Path},
		path:   x.s.searchPath(), dir: x.s.opt.Dir, log: x.s.daemonLog("kubelet"),
	}
	if err := makeCgroup(l.cgroup); err != nil {
		return err
	}
	p, err := l.start()
	if err != nil {
		return err
	}
	return x.update(func(st *state) { st.Kubelet = &p.Process })
}
