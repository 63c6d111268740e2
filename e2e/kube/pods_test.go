package kube

import (
	"os"
	"strings"
)

// kindsOfPods starts every kind of pod that Kubernetes has, in the mesh: what the
// kubelet and the platform do with them must work as without it.
func (m *mesh) kindsOfPods() {
	m.shop(0, 100)
	text, err := os.ReadFile("pods.yaml")
	m.must(err)
	web := port(m.addresses("web")[0], 80)
	m.platform(1, web, "v1")
	m.apply(strings.NewReplacer("PEER", peerImage, "WEB", web).Replace(string(text)))
	m.t.Cleanup(func() {
		_, _ = m.try("delete", "-n", "shop", "-l", "scenario=pods", "--wait=false", "pods,jobs,services,statefulsets")
	})
	m.await("condition=Ready", "-l", "scenario=pods,ready=yes", "pod")
	m.await("condition=Complete", "job/job")

	// What init containers and Jobs do goes through the mesh from the start; a
	// pod on the network of its node is left alone.
	job := m.field("{.items[0].metadata.name}", "pods", "-n", "shop", "-l", "job-name=job")
	for _, of := range []struct{ pod, container, want string }{
		{"init", "first", `"v2":20`}, {"sidecar", "after", `"v2":20`}, {job, "peer", `"v2":20`}, {"hostnetwork", "first", `"v1":20`},
	} {
		if log := m.kubectl("logs", "-n", "shop", of.pod, "-c", of.container); !strings.Contains(log, of.want) {
			m.t.Errorf("container %s of pod %s: want %s in %s", of.container, of.pod, of.want, log)
		}
	}

	// From pods, and from outside of the cluster as a load balancer comes in.
	node := m.Node(2).IP()
	for _, to := range []struct{ name, address, want string }{
		{"host-port", port(node, 18080), "hostport"},
		{"node-port", port(node, 30080), "hostport"},
		{"headless", port(m.field("{.status.podIP}", "pod", "-n", "shop", "stateful-0"), 8080), "stateful"},
	} {
		m.platform(1, to.address, to.want)
		r := m.create(to.name, "node1", "{}", "dial", "-n=20", to.address).wait()
		m.whole(to.name+" from a pod", r, 20)
		out, err := m.Run(m.t.Context(), peerBinary, "dial", "-n=20", to.address)
		if err != nil || !strings.Contains(out, `"`+to.want+`":20`) {
			m.t.Errorf("%s from outside: %v, %s", to.name, err, out)
		}
	}
	for _, pod := range []string{"probes-http", "probes-grpc"} {
		if n := m.field("{.status.containerStatuses[0].restartCount}", "pod", "-n", "shop", pod); n != "0" {
			m.t.Errorf("pod %s was started again %s times: its probes failed", pod, n)
		}
	}
}
