package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CoreDNS starts CoreDNS beside the control plane, behind the Service kube-dns
// whose ClusterIP every pod has as its resolver, and waits until it serves. With
// ProxyNone the ClusterIP leads nowhere, as with any other Service.
func (c *Cluster) CoreDNS(ctx context.Context) error {
	config := filepath.Join(c.options.Dir, "Corefile")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(corefile, c.Kubeconfig())), 0o644); err != nil {
		return err
	}
	if err := c.add(c.process("coredns", []string{"-conf", config})); err != nil {
		return err
	}
	if err := c.Apply(ctx, dnsService); err != nil {
		return err
	}
	return c.wait(ctx, "CoreDNS", func() error {
		conn, err := c.DialContext(ctx, "tcp", ControlPlane+":8181")
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

const corefile = `.:53 {
  errors
  ready ` + ControlPlane + `:8181
  kubernetes cluster.local {
    kubeconfig %s
    pods insecure
    ttl 5
  }
  cache 5
}
`

// The Service has no selector: CoreDNS is no pod, so its endpoint is written here.
const dnsService = `
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: ` + DNS + `, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: [` + ControlPlane + `], conditions: {ready: true}}]
`

// Kwok adds fake nodes, kwok-1 to kwok-N, on which pods become Ready although
// nothing runs, and waits until they are Ready. They have the label and the taint
// type=kwok, so that only pods which ask for them land there.
func (c *Cluster) Kwok(ctx context.Context, nodes int) error {
	err := c.add(c.process("kwok", []string{
		"--kubeconfig=" + c.Kubeconfig(), "--config=" + filepath.Join(c.options.Bin, "kwok-stages.yaml"),
		"--manage-nodes-with-label-selector=type=kwok",
	}))
	if err != nil {
		return err
	}
	var objects strings.Builder
	for i := 1; i <= nodes; i++ {
		fmt.Fprintf(&objects, fakeNode, i, i)
	}
	if _, err := c.KubectlInput(ctx, strings.NewReader(objects.String()), "create", "-f", "-"); err != nil {
		return err
	}
	limit := patience + time.Duration(nodes)*200*time.Millisecond
	return poll(ctx, limit, 200*time.Millisecond, "the fake nodes to be Ready", func() error {
		var list struct {
			Items []struct{ Status nodeStatus }
		}
		if err := c.get(ctx, "/api/v1/nodes?labelSelector=type%3Dkwok", &list); err != nil {
			return err
		}
		ready := 0
		for _, node := range list.Items {
			if node.Status.ready() == nil {
				ready++
			}
		}
		if ready < nodes {
			return fmt.Errorf("%d of %d are", ready, nodes)
		}
		return nil
	})
}

const fakeNode = `---
apiVersion: v1
kind: Node
metadata:
  name: kwok-%d
  labels: {type: kwok, kubernetes.io/hostname: kwok-%d}
  annotations: {node.alpha.kubernetes.io/ttl: "0"}
spec: {taints: [{key: type, value: kwok, effect: NoSchedule}]}
status: {allocatable: {cpu: "32", memory: 256Gi, pods: "110"}, capacity: {cpu: "32", memory: 256Gi, pods: "110"}}
`

// add starts a further process of the control plane.
func (c *Cluster) add(p *process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.processes {
		if other.name == p.name {
			return fmt.Errorf("%s is there already", p.name)
		}
	}
	if err := p.start(c.thread); err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	return nil
}
