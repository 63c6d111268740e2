package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"heddle.io/heddle/e2e/cluster"
)

// TestUserNamespaces: pods whose root is nobody on the node (hostUsers: false)
// are in the mesh as all others are. They need a newer containerd than Debian's.
func TestUserNamespaces(t *testing.T) {
	requireCluster(t)
	if err := cluster.BuildContainerd(t.Context(), "../..", os.Stderr); err != nil {
		t.Fatal(err)
	}
	m := bare(t, cluster.Options{UserNamespaces: true})
	m.kubectl("create", "namespace", "shop")
	early := m.isolated("early", "serve", "-name=early", "-ports=8080")
	m.await("condition=Ready", "pod/early")
	if users := m.kubectl("exec", "-n", "shop", early.name, "--", "/bin/busybox", "cat", "/proc/self/uid_map"); strings.HasPrefix(strings.Join(strings.Fields(users), " "), "0 0 ") {
		t.Fatalf("the pod has the users of the node: %s", users)
	}
	m.install()
	m.shop(0, 100)
	m.eventually("the pod that ran before Heddle is found", func() error { return m.found("early") })

	// Enrolled before the first process: what an init container does, and what
	// the pod's guard sees, is all.
	web := port(m.addresses("web")[0], 80)
	m.apply(strings.NewReplacer("PEER", peerImage, "WEB", web).Replace(isolatedObjects))
	m.create("spray", "node2", "{heddle.io/mesh: disabled}", "spray", "10.201.1.2", "10.201.1.60")
	m.await("condition=Ready", "pod/isolated")
	if log := m.kubectl("logs", "-n", "shop", "isolated", "-c", "first"); !strings.Contains(log, `"v2":20`) {
		t.Errorf("its init container was answered: %s", log)
	}
	m.guarded("isolated")

	// It serves, over a route, what others of its node and of another ask for.
	m.apply(isolatedService)
	m.eventually("route shop/early is programmed", func() error { return m.condition("tcproutes", "early", "Programmed", "True") })
	m.eventually("every node leads to pod early", func() error {
		_, err := m.used("shop/v1") // an error while there is no endpoint
		return err
	})
	for _, node := range []string{"node1", "node2"} {
		r := m.create("to-early-"+node, node, "{}", "dial", "-n=50", port(m.addresses("v1")[0], 80)).wait()
		m.whole("to the pod from "+node, r, 50)
		if r.By["early"] != 50 {
			t.Errorf("from %s: answered by %v", node, r.By)
		}
	}
	m.forgottenByAgent(web)

	m.kubectl("label", "namespace", "shop", "--overwrite", "heddle.io/mesh=disabled")
	m.eventually("the pod is released", func() error {
		if n, err := m.enrolled("early"); err != nil || n != 0 {
			return fmt.Errorf("enrolled %d: %w", n, err)
		}
		return nil
	})
	r := m.isolated("released", "dial", "-n=50", web).wait()
	m.whole("released", r, 50)
	if r.By["v1"] != 50 {
		t.Errorf("outside of the mesh, it was answered by %v", r.By)
	}
}

// forgottenByAgent restarts the agent of node1 without the list of its pods,
// while one of them makes connections: all are found by their processes.
func (m *mesh) forgottenByAgent(web string) {
	m.t.Helper()
	ctx := context.WithoutCancel(m.t.Context())
	c := m.isolated("during", "dial", "-for="+longest.String(), "-rate=200", "-workers=8", web)
	m.await("jsonpath={.status.phase}=Running", "pod/during")
	_, err := m.Node(1).Exec(ctx, "sh", "-c", "rm /var/lib/heddle/agent/pods.json && pkill -KILL -x heddled")
	m.must(err)
	m.eventually("the pods are found after a restart of the agent", func() error {
		return errors.Join(m.found("early"), m.found("isolated"), m.found("during"))
	})
	r := c.stop()
	m.whole("restart of the agent", r, 50)
	if r.By["v2"] != r.Connections {
		m.t.Errorf("during the restart, answered by %v", r.By)
	}
}

// found checks that the agent of node1 has found a pod by its processes, and has
// it in the mesh.
func (m *mesh) found(pod string) error {
	if n, err := m.enrolled(pod); err != nil || n != 1 {
		return fmt.Errorf("pod %s: enrolled %d: %w", pod, n, err)
	}
	agent, err := m.try("get", "pods", "-n", system, "-l", "app.kubernetes.io/component=agent", "--field-selector=spec.nodeName=node1", "-o", "name")
	if err != nil {
		return err
	}
	log, err := m.try("logs", "-n", system, strings.TrimSpace(agent))
	if err != nil {
		return err
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "running pod found") && strings.Contains(line, "pod=shop/"+pod+" ") {
			return nil
		}
	}
	return fmt.Errorf("the agent does not say that it has found pod %s", pod)
}

// isolated starts a peer in a user namespace on node1.
func (m *mesh) isolated(name string, args ...string) *client {
	m.t.Helper()
	m.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, labels: {app: %[1]s}}
spec:
  nodeName: node1
  hostUsers: false
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: peer, image: %q, imagePullPolicy: Never, command: [/peer, %s]}
`, name, peerImage, arguments(args)))
	return &client{m, name}
}

const isolatedObjects = `
apiVersion: v1
kind: Pod
metadata: {name: isolated, namespace: shop}
spec:
  nodeName: node1
  hostUsers: false
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: first, image: PEER, imagePullPolicy: Never, command: [/peer, dial, -n=20, "WEB"]}
  containers:
  - {name: peer, image: PEER, imagePullPolicy: Never, command: [/peer, sink]}
`

const isolatedService = `
apiVersion: v1
kind: Service
metadata: {name: early, namespace: shop}
spec:
  selector: {app: early}
  ports: [{name: web, port: 80, targetPort: 8080}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: early, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: v1, port: 80}]
  rules:
  - backendRefs: [{name: early, port: 80}]
`
