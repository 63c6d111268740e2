package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	patience = 3 * time.Minute
	settle   = 2 * time.Second // after the last acknowledgement; nothing more may come
)

// Cold is a start of the controller on a cluster that is there.
type Cold struct {
	Ready    float64  `json:"readySeconds"` // until everything was read and translated
	ReadyCPU float64  `json:"readyCPUSeconds"`
	RSS      uint64   `json:"rss"`              // then
	Agents   float64  `json:"agentsSeconds"`    // from their first connection until all were served
	CPU      float64  `json:"agentsCPUSeconds"` // of the controller meanwhile
	Mesh     received `json:"-"`                // by an agent with pods of the mesh
	Other    received `json:"-"`                // by one without
	MeshB    uint64   `json:"bytesOfMeshNode"`
	OtherB   uint64   `json:"bytesOfOtherNode"`
}

func (b *bed) cold(ctx context.Context) (c Cold, err error) {
	tokens, err := b.world.tokens(ctx)
	if err != nil {
		return c, fmt.Errorf("tokens of the agents: %w", err)
	}
	began := time.Now()
	if err := b.start(ctx); err != nil {
		return c, err
	}
	if err := b.awaitReady(ctx); err != nil {
		return c, err
	}
	c.Ready = time.Since(began).Seconds()
	if c.ReadyCPU, err = b.controller.cpu(); err != nil {
		return c, err
	}
	memory, err := b.controller.rss()
	if err != nil {
		return c, err
	}
	c.RSS = memory.RSS
	roots, err := b.roots(ctx)
	if err != nil {
		return c, err
	}
	began = time.Now()
	if err := b.fleet.connect(ctx, tokens, roots); err != nil {
		return c, err
	}
	c.Agents = time.Since(began).Seconds()
	if err := b.calm(ctx); err != nil {
		return c, err
	}
	cpu, err := b.controller.cpu()
	c.CPU = cpu - c.ReadyCPU
	counts := b.fleet.counts()
	c.MeshB, c.OtherB = counts[0].bytes, counts[len(counts)-1].bytes
	return c, err
}

// calm waits until no agent has received anything for a while: only then is what
// comes later the cause of what is measured later.
func (b *bed) calm(ctx context.Context) error {
	limit := time.Now().Add(patience)
	for before := b.fleet.counts(); ; {
		if err := pause(ctx, settle); err != nil {
			return err
		}
		now := b.fleet.counts()
		if slices.Equal(before, now) {
			return nil
		}
		if before = now; time.Now().After(limit) {
			return fmt.Errorf("agents receive more and more, though nothing changes; see the controller's log: %s", b.logEnd())
		}
	}
}

// awaitReady waits until the controller serves the whole cluster.
func (b *bed) awaitReady(ctx context.Context) error {
	for limit := time.Now().Add(patience); ; {
		status, err := b.admin.Status(ctx)
		if err == nil && status.Batches > 0 {
			return nil
		}
		select {
		case <-b.controller.gone:
			return fmt.Errorf("the controller has ended: %s", b.logEnd())
		default:
		}
		if time.Now().After(limit) {
			return fmt.Errorf("it serves nothing after %s (%w): %s", patience, err, b.logEnd())
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// Span is what a time cost everybody.
type Span struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpuSeconds"` // of the controller
	Batches uint64  `json:"batches"`
	Encoded uint64  `json:"resourcesEncoded"`

	// What the agents received, as a node in the middle has it; and all nodes
	// without pods of the mesh together, which has to be nothing.
	Responses, Resources, Bytes                float64
	OtherResponses, OtherResources, OtherBytes uint64
}

// during measures what f costs, with what comes of it right afterwards.
func (b *bed) during(ctx context.Context, f func() error) (s Span, err error) {
	status, err := b.admin.Status(ctx)
	if err != nil {
		return s, err
	}
	before := b.fleet.counts()
	cpu, err := b.controller.cpu()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return s, err
	}
	s.Seconds = time.Since(began).Seconds()
	if err := pause(ctx, settle); err != nil {
		return s, err
	}
	now, err := b.controller.cpu()
	if err != nil {
		return s, err
	}
	s.CPU = now - cpu
	after, err := b.admin.Status(ctx)
	if err != nil {
		return s, err
	}
	s.Batches, s.Encoded = after.Batches-status.Batches, after.Encoded-status.Encoded
	s.count(before, b.fleet.counts(), b.world.MeshNodes)
	return s, b.fleet.failure()
}

func (s *Span) count(before, after []received, mesh int) {
	var responses, resources, bytes []float64
	for i := range after {
		r := after[i].minus(before[i])
		if i < mesh {
			responses = append(responses, float64(r.responses))
			resources = append(resources, float64(r.resources))
			bytes = append(bytes, float64(r.bytes))
			continue
		}
		s.OtherResponses += r.responses
		s.OtherResources += r.resources
		s.OtherBytes += r.bytes
	}
	s.Responses, s.Resources, s.Bytes = quantile(responses, .5), quantile(resources, .5), quantile(bytes, .5)
}

func (b *bed) quiet(ctx context.Context, d time.Duration) (Span, error) {
	return b.during(ctx, func() error { return pause(ctx, d) })
}

// Changes are changes of one endpoint, one after the other in even steps.
type Changes struct {
	Span
	Count int           `json:"count"`
	Every time.Duration `json:"everyNanoseconds"`

	// Times until the last node of the mesh had acknowledged each: from the API
	// server's answer to the write, and from before the write was sent.
	FromAnswer  []float64 `json:"secondsFromAnswer"`
	FromRequest []float64 `json:"secondsFromRequest"`
}

func (b *bed) changes(ctx context.Context, count int, every time.Duration) (c Changes, err error) {
	c.Count, c.Every = count, every
	c.FromAnswer, c.FromRequest = make([]float64, count), make([]float64, count)
	var waiting errgroup.Group
	c.Span, err = b.during(ctx, func() error {
		next := time.Now()
		for n := range count {
			if err := pause(ctx, time.Until(next)); err != nil {
				return err
			}
			next = next.Add(every)
			service := b.world.changed(n)
			endpoints := b.world.toggled(service)
			waiting.Go(func() error { return b.change(ctx, service, endpoints, &c.FromAnswer[n], &c.FromRequest[n]) })
		}
		return waiting.Wait()
	})
	return c, err
}

// change writes the endpoints of a service, and waits until every node of the mesh
// has acknowledged them.
func (b *bed) change(ctx context.Context, service int, endpoints []discoveryv1.Endpoint, fromAnswer, fromRequest *float64) error {
	w := b.world
	acknowledged := b.fleet.expect(w.clusterName(service), w.MeshNodes)
	began := time.Now()
	if err := w.write(ctx, service, endpoints); err != nil {
		return err
	}
	answered := time.Now()
	if err := acknowledged.wait(ctx, w.name(service)); err != nil {
		return err
	}
	*fromAnswer = max(0, acknowledged.last.Sub(answered).Seconds())
	*fromRequest = acknowledged.last.Sub(began).Seconds()
	return nil
}

func (a *arrival) wait(ctx context.Context, what string) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-a.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("the change of %s was not acknowledged by all nodes within %s", what, patience)
	}
}

// Rollout is a replacement of pods as fast as the API server takes it: each pod's
// endpoint gives way to that of a new pod, and the pod is deleted.
type Rollout struct {
	Span
	Pods int `json:"pods"`
	// Events are what the controller was told: a slice for each pod, and the
	// deletion of the pod.
	Events int     `json:"events"`
	Writes float64 `json:"writesSeconds"` // until the last was answered
	Last   float64 `json:"lastSeconds"`   // from then until all had acknowledged what came last
}

func (b *bed) rollout(ctx context.Context) (r Rollout, err error) {
	w := b.world
	r.Pods = w.Rollout * w.PodsOf
	r.Events = 2 * r.Pods
	r.Span, err = b.during(ctx, func() error {
		began := time.Now()
		if err := b.replace(ctx); err != nil {
			return err
		}
		r.Writes = time.Since(began).Seconds()
		// Slices come by one watch, in order: who has acknowledged this one has
		// all before.
		service := w.Services - 1
		acknowledged := b.fleet.expect(w.clusterName(service), w.MeshNodes)
		answered := time.Now()
		if err := w.write(ctx, service, w.slices[service].Endpoints[1:]); err != nil {
			return err
		}
		if err := acknowledged.wait(ctx, w.name(service)); err != nil {
			return err
		}
		r.Last = acknowledged.last.Sub(answered).Seconds()
		return nil
	})
	r.Events++ // the one that came last
	return r, err
}

// replace replaces the pods, those of one service one after the other.
func (b *bed) replace(ctx context.Context) error {
	w := b.world
	now := int64(0)
	var all errgroup.Group
	all.SetLimit(parallel)
	for n := range w.Rollout {
		all.Go(func() error {
			service := w.rolled(n)
			for j := range w.PodsOf {
				endpoints := slices.DeleteFunc(slices.Clone(w.slices[service].Endpoints), func(e discoveryv1.Endpoint) bool {
					return e.TargetRef.Name == w.podName(service, j, 1)
				})
				endpoints = append(endpoints, endpointOf(w.fresh[n*w.PodsOf+j]))
				if err := w.write(ctx, service, endpoints); err != nil {
					return err
				}
				old := w.podName(service, j, 1)
				if err := w.api.CoreV1().Pods(w.namespace(service)).Delete(ctx, old, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}
