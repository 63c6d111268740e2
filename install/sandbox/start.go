package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"heddle.io/heddle/api/admin"
)

// startPod takes a pod that is placed and written to ready. The order matters:
// the controller knows the pod already, so the agent can say whether it is in
// the mesh and capture it; only then its first process starts.
func (x *session) startPod(ctx context.Context, w *work, services []*corev1.Service) error {
	p := w.start
	err := x.bringUp(ctx, w.obj.pod, p, services)
	record := x.update(func(*state) {
		if err == nil {
			p.Ready, p.Reason = p.Phase == phaseRunning, ""
			return
		}
		p.Reason = err.Error()
		if p.Phase == phaseStarting {
			p.Phase = phaseFailed
		}
	})
	describePod(w.obj.pod, p, time.Now())
	_, written := x.s.write(w.obj)
	w.change.Detail = joinDetail(fmt.Sprintf("%s on %s", p.Addresses[0], p.Node), w.change.Detail)
	if err != nil {
		err = fmt.Errorf("%s on %s: %w", w.obj, p.Node, err)
	}
	return errors.Join(err, record, written)
}

func joinDetail(a, b string) string {
	if b == "" {
		return a
	}
	return a + "; " + b
}

// bringUp makes the pod's world, announces it, starts its processes and waits
// until they are ready.
func (x *session) bringUp(ctx context.Context, pod *corev1.Pod, p *podState, services []*corev1.Service) error {
	if err := makeCgroup(podCgroup(x.root, p)); err != nil {
		return err
	}
	if !p.HostNetwork {
		if err := makeNetns(x.s.podNetns(p.Namespace, p.Name)); err != nil {
			return err
		}
		if err := x.s.connectPod(p); err != nil {
			return err
		}
		_, err := x.s.Agent(p.Node).Announce(ctx, admin.PodRequest{
			Namespace: p.Namespace, Name: p.Name,
			Netns:          netnsPath(x.s.podNetns(p.Namespace, p.Name)),
			Interface:      p.interfaceName(),
			TimeoutSeconds: announceLimit.Seconds(),
		})
		if err != nil {
			return fmt.Errorf("announce the pod, so its process was not started: %w", err)
		}
	}
	started, err := x.runContainers(pod, p, services)
	if err != nil {
		return err
	}
	return x.awaitReady(ctx, pod, p, started)
}

// runContainers starts one process per container.
func (x *session) runContainers(pod *corev1.Pod, p *podState, services []*corev1.Service) ([]*running, error) {
	home := filepath.Join(x.s.opt.Dir, "pods", p.Namespace+"_"+p.Name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, fmt.Errorf("make the pod's directory: %w", err)
	}
	var out []*running
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		env, err := environment(pod, c, services, x.s.searchPath())
		if err != nil {
			return nil, err
		}
		l := launch{
			netns: x.s.netnsOf(p), cgroup: podCgroup(x.root, p),
			argv: commandLine(c, env), env: env, path: x.s.searchPath(),
			dir: home, log: filepath.Join(x.s.logDir(), p.Namespace+"_"+p.Name+"_"+c.Name+".log"),
		}
		if c.WorkingDir != "" {
			l.dir = c.WorkingDir
		}
		if i == 0 {
			if err := x.update(func(*state) { p.Env, p.Dir = env, l.dir }); err != nil {
				return nil, err
			}
		}
		r, err := l.start()
		if err != nil {
			return nil, err
		}
		err = x.update(func(*state) {
			p.Processes = append(p.Processes, podProcess{r.Process, c.Name, l.log})
		})
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, x.update(func(*state) { p.Phase = phaseRunning })
}

// announceLimit bounds how long an agent has to put a pod into the mesh.
const announceLimit = 30 * time.Second

// settle is how long a container without a readiness probe must live to count
// as started: what cannot even read its flags is caught.
const settle = 30 * time.Millisecond

// awaitReady waits until every container's probe succeeds, or a process ends.
func (x *session) awaitReady(ctx context.Context, pod *corev1.Pod, p *podState, started []*running) error {
	for i, r := range started {
		c := &pod.Spec.Containers[i]
		var last error
		asked := time.Now()
		err := poll(ctx, probeLimit, 5*time.Millisecond, func() bool {
			select {
			case <-r.done:
				return true
			default:
			}
			if c.ReadinessProbe == nil {
				return time.Since(asked) >= settle
			}
			last = x.s.probe(ctx, pod, c, p)
			return last == nil
		})
		select {
		case <-r.done:
			return x.ended(p, c, r)
		default:
		}
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("container %s is not ready after %s: %w (heddlectl sandbox logs %s)", c.Name, probeLimit, last, p.key())
		}
	}
	return nil
}

// ended is a process that ended while the pod started: the end of a job, or a
// failure.
func (x *session) ended(p *podState, c *corev1.Container, r *running) error {
	phase := phaseSucceeded
	if r.err != nil {
		phase = phaseFailed
	}
	if err := x.update(func(*state) { p.Phase = phase }); err != nil {
		return err
	}
	if r.err == nil {
		return nil
	}
	log := p.Processes[0].Log
	for _, proc := range p.Processes {
		if proc.Container == c.Name {
			log = proc.Log
		}
	}
	return fmt.Errorf("container %s ended (%w): %s", c.Name, r.err, tail(log))
}

func (p *podState) alive() bool {
	for i := range p.Processes {
		if !p.Processes[i].Alive() {
			return false
		}
	}
	return len(p.Processes) > 0
}
