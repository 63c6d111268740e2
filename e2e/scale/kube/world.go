package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"heddle.io/heddle/e2e/cluster"
)

// shape is how large the cluster is.
type shape struct {
	Nodes     int `json:"nodes"`
	MeshNodes int `json:"meshNodes"` // the first of them; pods of the mesh are there, and nowhere else
	Services  int `json:"services"`
	PodsOf    int `json:"podsOfEachService"`
	Rollout   int `json:"rolledOutServices"`
}

// perNamespace is how many services a namespace has. Every second namespace is in
// the mesh.
const perNamespace = 10

func (s shape) pods() int { return s.Services * s.PodsOf }

func (s shape) check() error {
	switch {
	case s.Services < 2*perNamespace || s.Services%(2*perNamespace) != 0:
		return fmt.Errorf("%d services: take a multiple of %d", s.Services, 2*perNamespace)
	case s.MeshNodes < 1 || s.MeshNodes >= s.Nodes || s.Nodes > 5000:
		return fmt.Errorf("%d nodes of %d with pods of the mesh: take at least one, and leave one without; at most 5000", s.MeshNodes, s.Nodes)
	case s.PodsOf < 2 || s.pods()/2 < s.Nodes:
		return fmt.Errorf("%d pods of each service: take at least two, and enough for every one of %d nodes", s.PodsOf, s.Nodes)
	case s.Rollout < 1 || s.Rollout > s.Services/2:
		return fmt.Errorf("a rollout of %d services: take at most the %d in the mesh", s.Rollout, s.Services/2)
	}
	return nil
}

// world is the cluster's objects. Services have no selectors: EndpointSlices are
// written here, so that what is measured begins at a known moment and is not the
// time of Kubernetes' own controllers.
type world struct {
	shape
	api    kubernetes.Interface
	slices []*discoveryv1.EndpointSlice // by service
	fresh  []corev1.Pod                 // what the rollout brings, in the order of its services
	spares map[int]discoveryv1.Endpoint // that changes took from services
}

const (
	system   = "heddle-system"
	meshKey  = "heddle.io/mesh"
	parallel = 24 // requests at once while the cluster is made
)

func (w *world) namespace(service int) string { return fmt.Sprintf("team-%03d", service/perNamespace) }
func (w *world) name(service int) string      { return fmt.Sprintf("service-%05d", service) }

// inMesh reports whether a service's pods are in the mesh.
func (w *world) inMesh(service int) bool { return service/perNamespace%2 == 0 }

// clusterName is the resource with the endpoints of a service.
func (w *world) clusterName(service int) string {
	return fmt.Sprintf("%s/%s/80/tcp", w.namespace(service), w.name(service))
}

func nodeName(n int) string { return fmt.Sprintf("kwok-%d", n+1) }

// rolled is the n-th service of the rollout: all are in the mesh, so that it
// concerns the nodes of the mesh alone.
func (w *world) rolled(n int) int { return n/perNamespace*2*perNamespace + n%perNamespace }

// node is where a pod of a service is.
func (w *world) node(service, pod int) string {
	serial := (service/(2*perNamespace)*perNamespace+service%perNamespace)*w.PodsOf + pod
	if w.inMesh(service) {
		return nodeName(serial % w.MeshNodes)
	}
	return nodeName(w.MeshNodes + serial%(w.Nodes-w.MeshNodes))
}

// Setup is how long making the cluster took.
type Setup struct {
	Nodes    float64 `json:"nodesSeconds"`
	Pods     float64 `json:"podsSeconds"` // with those of the agents and of the rollout
	Services float64 `json:"servicesSeconds"`
}

func (w *world) create(ctx context.Context, c *cluster.Cluster) (s Setup, err error) {
	step := func(seconds *float64, what string, f func(context.Context) error) {
		if err != nil {
			return
		}
		began := time.Now()
		if err = f(ctx); err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
		*seconds = time.Since(began).Seconds()
	}
	step(&s.Nodes, "nodes", func(ctx context.Context) error { return c.Kwok(ctx, w.Nodes) })
	step(&s.Pods, "pods", w.createPods)
	step(&s.Services, "services", w.createServices)
	return s, err
}

// createPods makes all pods, those of the agents among them, and waits until kwok
// has made them Ready.
func (w *world) createPods(ctx context.Context) error {
	var all errgroup.Group
	all.SetLimit(parallel)
	for n := 0; n < w.Services; n += perNamespace {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace(n)}}
		if w.inMesh(n) {
			namespace.Labels = map[string]string{meshKey: "enabled"}
		}
		all.Go(func() error {
			_, err := w.api.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	pods := w.newPods()
	for _, p := range pods {
		all.Go(func() error {
			_, err := w.api.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	return w.awaitPods(ctx, len(pods))
}

func (w *world) newPods() []*corev1.Pod {
	var pods []*corev1.Pod
	add := func(namespace, name, node string, spec corev1.PodSpec) {
		spec.NodeName = node
		spec.Containers = []corev1.Container{{Name: "main", Image: "none"}}
		pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec})
	}
	off := false
	plain := corev1.PodSpec{AutomountServiceAccountToken: &off, ServiceAccountName: "default"}
	for n := range w.Nodes {
		add(system, agentPod(nodeName(n)), nodeName(n), corev1.PodSpec{AutomountServiceAccountToken: &off, ServiceAccountName: agentAccount, HostNetwork: true})
	}
	for i := range w.Services {
		for j := range w.PodsOf {
			add(w.namespace(i), w.podName(i, j, 1), w.node(i, j), plain)
		}
	}
	for n := range w.Rollout {
		for j := range w.PodsOf {
			i := w.rolled(n)
			add(w.namespace(i), w.podName(i, j, 2), w.node(i, j), plain)
		}
	}
	return pods
}

func (w *world) podName(service, pod, revision int) string {
	return fmt.Sprintf("%s-v%d-%d", w.name(service), revision, pod)
}

// awaitPods waits for the addresses of all pods, and prepares the slices.
func (w *world) awaitPods(ctx context.Context, want int) error {
	limit := time.Now().Add(patience + time.Duration(want)*50*time.Millisecond)
	for {
		list, err := w.api.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return err
		}
		byName := make(map[string]corev1.Pod)
		for _, p := range list.Items {
			if p.Status.Phase == corev1.PodRunning && (p.Spec.HostNetwork || p.Status.PodIP != "") {
				byName[p.Name] = p
			}
		}
		if len(byName) >= want {
			w.takePods(byName)
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%d of %d are running; see the log of kwok", len(byName), want)
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

func (w *world) takePods(byName map[string]corev1.Pod) {
	for i := range w.Services {
		w.slices = append(w.slices, w.newSlice(i, byName))
	}
	for n := range w.Rollout {
		for j := range w.PodsOf {
			w.fresh = append(w.fresh, byName[w.podName(w.rolled(n), j, 2)])
		}
	}
}

func (w *world) newSlice(i int, byName map[string]corev1.Pod) *discoveryv1.EndpointSlice {
	name, port, protocol := "http", int32(8080), corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace(i), Name: w.name(i) + "-abc12",
			Labels: map[string]string{discoveryv1.LabelServiceName: w.name(i)},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	for j := range w.PodsOf {
		s.Endpoints = append(s.Endpoints, endpointOf(byName[w.podName(i, j, 1)]))
	}
	return s
}

func endpointOf(p corev1.Pod) discoveryv1.Endpoint {
	ready, node := true, p.Spec.NodeName
	return discoveryv1.Endpoint{
		Addresses:  []string{p.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
		NodeName:   &node,
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
}

func (w *world) createServices(ctx context.Context) error {
	var all errgroup.Group
	all.SetLimit(parallel)
	for i := range w.Services {
		all.Go(func() error {
			s := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace(i), Name: w.name(i)},
				Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
			}
			if _, err := w.api.CoreV1().Services(s.Namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
				return err
			}
			made, err := w.api.DiscoveryV1().EndpointSlices(s.Namespace).Create(ctx, w.slices[i], metav1.CreateOptions{})
			if err == nil {
				w.slices[i] = made
			}
			return err
		})
	}
	return all.Wait()
}

// changed is the service of the n-th change. A service comes again after so many
// others that its change before has long been acknowledged.
func (w *world) changed(n int) int { return n % min(w.Services, 150) * 7 % w.Services }

// toggled are the endpoints of a service without the last one, or with it again
// when it was taken before.
func (w *world) toggled(service int) []discoveryv1.Endpoint {
	endpoints := slices.Clone(w.slices[service].Endpoints)
	if spare, ok := w.spares[service]; ok {
		delete(w.spares, service)
		return append(endpoints, spare)
	}
	last := len(endpoints) - 1
	w.spares[service] = endpoints[last]
	return endpoints[:last]
}

// write writes the slice of a service as it is to be.
func (w *world) write(ctx context.Context, service int, endpoints []discoveryv1.Endpoint) error {
	s := w.slices[service].DeepCopy()
	s.Endpoints = endpoints
	written, err := w.api.DiscoveryV1().EndpointSlices(s.Namespace).Update(ctx, s, metav1.UpdateOptions{})
	if err == nil {
		w.slices[service] = written
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
