package scenarios

import (
	"fmt"
	"syscall"
	"testing"
)

// Pods that ask for it talk from socket to socket, by the service's address, and
// nobody else does. Agents are killed, and the label is taken off, under open
// connections: none of them is harmed.
func TestSocketBypass(t *testing.T) {
	m := up(t, "bypass.yaml")
	m.eventually("the service", func() error { // on the node with its clients
		s, err := m.service("node1", "fast/server", 80)
		if err != nil {
			return err
		}
		return served(s)
	})
	m.waitCtl([]string{"describe", "pod", "fast/asks"}, "bypass    on, with")
	m.waitCtl([]string{"describe", "pod", "fast/silent"}, "bypass    off: not asked for")
	m.waitCtl([]string{"why", "fast/asks", "fast/server"}, "carried   by socket_bypass: ")

	m.reach("fast/silent", 10, "10.96.3.1:80")
	if n := m.reasons("node1")["bypassed"]; n != 0 {
		t.Errorf("%d connections of a pod that did not ask were bypassed", n)
	}
	held := m.start("fast/asks", "hold", "-n=20", "-every=5ms", "-for=10m", "10.96.3.1:80")
	m.eventually("20 bypassed connections", func() error { return m.serving("node1", 20) })
	m.waitStatus("carries   socket_bypass (on): 20 connections now, 20 in all")

	for range 3 {
		m.must(m.StopAgent(t.Context(), "node1", syscall.SIGKILL))
		m.startAgents("")
	}
	m.apply(`{apiVersion: v1, kind: Pod, metadata: {name: server, namespace: fast, labels: {app: server}}, spec: {nodeName: node1,
  containers: [{name: main, image: none, command: [peer, serve, -name=server, "-ports=8080"], readinessProbe: {tcpSocket: {port: 8080}}}]}}`)
	m.waitCtl([]string{"describe", "pod", "fast/server"}, "bypass    off") // its word is taken back
	before := m.reasons("node1")["bypassed"]
	m.reach("fast/asks", 10, "10.96.3.1:80")
	if n := m.reasons("node1")["bypassed"]; n != before {
		t.Errorf("%d connections to a pod that does not ask any more were bypassed", n-before)
	}
	res := held.stop()
	if res.Failed > 0 || res.Connections != 20 {
		t.Errorf("%d connections were harmed, %d lived on: %v", res.Failed, res.Connections, res.Errors)
	}
	m.eventually("nothing is left", func() error { return m.serving("node1", 0) })
}

// serving fails unless so many connections of a node are in the bypass.
func (m *mesh) serving(node string, want uint64) error {
	status, err := m.Agent(node).Status(m.t.Context())
	if err != nil {
		return err
	}
	for _, s := range status.Mechanisms {
		if s.Name == "socket_bypass" && s.Now == want {
			return nil
		}
	}
	return fmt.Errorf("the mechanisms are %+v, want %d connections in the bypass", status.Mechanisms, want)
}
