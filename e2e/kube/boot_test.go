package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/e2e/peer"
)

// reboot takes the power from a node and gives it back, twice. Service boot leads
// to a peer that counts; in the mesh, a route leads it to v2. So whatever the
// counter sees from the pods of the node went around the mesh.
func (m *mesh) reboot() {
	m.shop(0, 100)
	ctx := context.WithoutCancel(m.t.Context())
	m.apply(strings.ReplaceAll(bootObjects, "PEER", peerImage))
	m.t.Cleanup(func() {
		_, _ = m.try("delete", "-n", "shop", "--wait=false", "--ignore-not-found",
			"deployment/boots", "pod/counter", "pod/boots-sink", "service/boot", "tcproute.gateway.networking.k8s.io/boot")
	})
	m.await("condition=Ready", "pod/counter")
	m.eventually("route shop/boot is programmed", func() error { return m.condition("tcproutes", "boot", "Programmed", "True") })
	boot := port(m.addresses("boot")[0], 80)

	// The counter counts: who is outside of the mesh reaches it.
	outside := m.platform(1, boot, "outside")
	stranger := m.create("stranger", "node1", "{heddle.io/mesh: disabled}", "dial", "-n=100", boot)
	r := stranger.wait()
	if r.By["outside"] != 100 {
		m.t.Fatalf("outside of the mesh, %d connections were answered by %v, %v", r.Connections, r.By, r.Errors)
	}
	outside += r.Connections

	m.apply(strings.NewReplacer("PEER", peerImage, "BOOT", boot).Replace(bootClients))
	m.rolledOut("shop", "deployment/boots")
	// And somebody sends to whatever address a pod of node1 may get.
	m.create("spray", "node2", "{heddle.io/mesh: disabled}", "spray", "10.201.1.2", "10.201.1.60")
	for range 2 {
		before, err := m.containers()
		m.must(err)
		pause(ctx, 2*time.Second)
		m.must(m.Node(1).Reboot(ctx))
		m.eventually("the pods of node1 run again", func() error { return m.restarted(before) })
		pause(ctx, 2*time.Second)
		m.guarded("boots-sink")
	}
	// Servers have other addresses now, which every node has to know.
	m.settled()
	// In the mesh they are served, by v2 alone.
	check := m.create("check", "node1", "{}", "dial", "-n=200", boot)
	r = check.wait()
	m.whole("after the boot", r, 200)
	if r.By["v2"] != 200 {
		m.t.Errorf("after the boot, connections were answered by %v", r.By)
	}

	counter := &client{m, "counter"}
	var seen peer.Result
	m.kubectl("exec", "-n", "shop", "counter", "--", "/bin/kill", "-TERM", "1")
	m.await("jsonpath={.status.phase}=Succeeded", "pod/counter")
	m.must(json.Unmarshal([]byte(m.kubectl("logs", "-n", "shop", counter.name)), &seen))
	if seen.Connections != outside {
		m.t.Errorf("%d connections went around the mesh", seen.Connections-outside)
	}
}

// guarded checks that the program on a pod's interface has seen every packet that
// the pod took since its first process started. Were it put there later, the
// pod would have taken more.
func (m *mesh) guarded(name string) {
	m.t.Helper()
	number := func(text string) uint64 {
		m.t.Helper()
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		m.must(err)
		return n
	}
	m.eventually("pod "+name+" is guarded from its start", func() error {
		log, err := m.try("logs", "-n", "shop", name)
		if err != nil {
			return err
		}
		lines := strings.Fields(log)
		if len(lines) == 0 {
			return errors.New("it has not started")
		}
		out, err := m.try("exec", "-n", "shop", name, "--", "/peer", "received")
		if err != nil {
			return err
		}
		taken := number(out) - number(lines[len(lines)-1])
		text, err := m.ctl("get", "pods", "--node=node1", "-o", "json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, text)
		}
		var nodes []struct{ Items []admin.Pod }
		m.must(json.Unmarshal([]byte(text), &nodes))
		for _, n := range nodes {
			for _, p := range n.Items {
				if p.Namespace == "shop" && p.Name == name && p.TxPackets >= taken && taken > 100 {
					m.t.Logf("pod %s took %d packets, its guard saw %d", name, taken, p.TxPackets)
					return nil
				}
			}
		}
		return fmt.Errorf("it took %d packets; its guard: %+v", taken, nodes)
	})
}

// containers are those that run on node1, of clients and of servers, by pod.
func (m *mesh) containers() (map[string]string, error) {
	out, err := m.try("get", "pods", "-n", "shop", "-l", "app in (boots, web)", "--field-selector=spec.nodeName=node1", "-o",
		`jsonpath={range .items[*]}{.metadata.name}{" "}{.status.containerStatuses[0].state.running.startedAt}{" "}{.status.containerStatuses[0].containerID}{"\n"}{end}`)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	running := make(map[string]string)
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 {
			running[f[0]] = f[2]
		}
	}
	return running, nil
}

// restarted checks that every one of these pods has another container.
func (m *mesh) restarted(before map[string]string) error {
	now, err := m.containers()
	if err != nil {
		return err
	}
	for pod, container := range before {
		if now[pod] == "" || now[pod] == container {
			return fmt.Errorf("pod %s has not: %v before, %v now", pod, before, now)
		}
	}
	return nil
}

const bootObjects = `
apiVersion: v1
kind: Pod
metadata: {name: counter, namespace: shop, labels: {app: counter, heddle.io/mesh: disabled}}
spec:
  nodeName: node2
  restartPolicy: Never
  containers:
  - {name: peer, image: "PEER", imagePullPolicy: Never, command: [/peer, serve, -name=outside, -ports=8080], readinessProbe: {exec: {command: [/bin/true]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: boots-sink, namespace: shop}
spec:
  nodeName: node1
  containers:
  - {name: peer, image: "PEER", imagePullPolicy: Never, command: [/peer, sink]}
---
apiVersion: v1
kind: Service
metadata: {name: boot, namespace: shop}
spec:
  selector: {app: counter}
  ports: [{name: boot, port: 80, targetPort: 8080}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: boot, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: boot, port: 80}]
  rules:
  - backendRefs: [{name: v2, port: 80}]
`

// bootClients connect from their first moment on, and are started again.
const bootClients = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: boots, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: boots}}
  template:
    metadata: {labels: {app: boots}}
    spec:
      nodeName: node1
      terminationGracePeriodSeconds: 1
      initContainers:
      - {name: first, image: "PEER", imagePullPolicy: Never, command: [/peer, dial, -n=20, "BOOT"]}
      containers:
      - {name: peer, image: "PEER", imagePullPolicy: Never, command: [/peer, dial, -for=1h, -rate=200, "BOOT"]}
`
