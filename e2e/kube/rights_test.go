package kube

import (
	"strings"
)

// rights tries what the agent's token and strangers on a node might do.
func (m *mesh) rights() {
	m.shop(50, 50)
	m.apply(`
apiVersion: v1
kind: Secret
metadata: {name: treasure, namespace: shop}
stringData: {key: value}
`)
	token := strings.TrimSpace(m.kubectl("create", "token", "-n", system, "heddle-agent"))
	// The administrator's own credentials must not help.
	agent := func(args ...string) (string, error) {
		return m.try(append([]string{"--kubeconfig=/dev/null", "--server=https://10.200.0.1:6443", "--insecure-skip-tls-verify", "--token=" + token}, args...)...)
	}
	if out, err := agent("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); err != nil || out != "system:serviceaccount:"+system+":heddle-agent" {
		m.t.Fatalf("the token is not the agent's: %v, %s", err, out)
	}
	for _, args := range [][]string{
		{"get", "secrets", "-A"},
		{"get", "secret", "-n", "shop", "treasure"},
		{"get", "secrets", "-n", system},
		{"get", "pods", "-A"},
		{"get", "pods", "-n", system},
		{"get", "configmaps", "-n", system},
		{"get", "nodes"},
		{"create", "configmap", "-n", system, "mine"},
		{"create", "configmap", "-n", "shop", "mine"},
		{"label", "node", "node1", "mine=yes"},
		{"label", "namespace", "shop", "mine=yes"},
		{"delete", "pod", "-n", "shop", "--all"},
		{"create", "token", "-n", system, "heddle-controller"},
		{"delete", "endpointslices", "-n", system, "--all"},
		{"exec", "-n", "shop", "deployment/v1", "--", "/bin/true"},
	} {
		if out, err := agent(args...); err == nil || !strings.Contains(out+err.Error(), "orbidden") {
			m.t.Errorf("the agent may kubectl %s: %v, %s", strings.Join(args, " "), err, out)
		}
	}

	// A pod that has the directory of the sockets, and is root in it.
	m.apply(strings.ReplaceAll(`
apiVersion: v1
kind: Pod
metadata: {name: thief, namespace: shop}
spec:
  nodeName: node1
  restartPolicy: Never
  containers:
  - name: peer
    image: PEER
    imagePullPolicy: Never
    command: [/peer, announce, /run/heddle/cni.sock]
    volumeMounts: [{name: run, mountPath: /run/heddle}]
  volumes:
  - {name: run, hostPath: {path: /run/heddle}}
`, "PEER", peerImage))
	thief := &client{m, "thief"}
	defer thief.remove()
	m.await("jsonpath={.status.phase}=Failed", "pod/thief")
	if log := m.kubectl("logs", "-n", "shop", "thief"); !strings.Contains(log, "belongs to the pod") {
		m.t.Errorf("a pod announced a pod to the agent: %s", log)
	}
	// A process of the node that is not root.
	out, err := m.Node(1).Exec(m.t.Context(), "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", peerBinary, "announce", "/run/heddle/cni.sock")
	if err == nil {
		m.t.Errorf("a user of the node announced a pod to the agent: %s", out)
	}
	// And who may: root of the node, whose question is answered on its merits.
	if out, _ := m.Node(1).Exec(m.t.Context(), peerBinary, "announce", "/run/heddle/cni.sock"); !strings.Contains(out, "netns") {
		m.t.Errorf("root of the node got no answer from the agent: %s", out)
	}
}
