package sandbox

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"heddle.io/heddle/e2e/golden"
)

func podOf(t *testing.T, manifest string) *object {
	t.Helper()
	objects, err := parse([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return objects[0]
}

func emptyState() *state {
	return &state{Nodes: map[string]*nodeState{"node1": {}, "node2": {}}, Pods: map[string]*podState{}}
}

const webPod = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  containers:
  - name: main
    command: [server, --on=$(WEB_SERVICE_HOST)]
    args: ["$(MY_IP)", "$(UNKNOWN)", "$$(HOSTNAME)"]
    ports: [{name: http, containerPort: 8080}]
    env:
    - {name: MY_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: URL, value: "http://$(WEB_SERVICE_HOST):$(WEB_SERVICE_PORT_HTTP)"}
`

// TestPodObject: what the controller reads of a pod before and after its start.
func TestPodObject(t *testing.T) {
	st := emptyState()
	o := podOf(t, webPod)
	p, err := st.place(o.pod)
	if err != nil {
		t.Fatal(err)
	}
	p.Addresses = []string{"10.244.1.2", "fd00:10:244:1::2"} // whatever this kernel has
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	describePod(o.pod, p, now)
	starting, err := o.encode()
	if err != nil {
		t.Fatal(err)
	}
	p.Phase, p.Ready = phaseRunning, true
	describePod(o.pod, p, now.Add(time.Second))
	ready, err := o.encode()
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "pod.yaml", string(starting)+"---\n"+string(ready))
}

func TestPlacement(t *testing.T) {
	st := emptyState()
	var got []string
	for _, spec := range []string{"{}", "{}", "{nodeName: node1}", "{}", "{hostNetwork: true}", "{}"} {
		pod := &corev1.Pod{}
		pod.Namespace, pod.Name = "n", string(rune('a'+len(got)))
		pod.Spec.HostNetwork = strings.Contains(spec, "hostNetwork")
		if strings.Contains(spec, "node1") {
			pod.Spec.NodeName = "node1"
		}
		p, err := st.place(pod)
		if err != nil {
			t.Fatal(err)
		}
		st.Pods[p.key()] = p
		got = append(got, p.Node+" "+p.Addresses[0])
	}
	want := []string{
		"node1 10.244.1.2", "node2 10.244.2.2", "node1 10.244.1.3",
		"node2 10.244.2.3", "node1 10.250.0.1", "node2 10.244.2.4",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for len(st.Pods) < MaxPods {
		st.Pods[time.Duration(len(st.Pods)).String()] = &podState{}
	}
	if _, err := st.place(&corev1.Pod{}); err == nil {
		t.Error("a pod over the limit was placed")
	}
}

func TestAdmitPod(t *testing.T) {
	for _, tt := range []struct{ name, spec, want string }{
		{"no container", `{}`, "spec.containers is required"},
		{"no command", `{containers: [{name: c, image: nginx}]}`, "needs a command"},
		{"init container", `{containers: [{name: c, command: [x]}], initContainers: [{name: i}]}`, "spec.containers only"},
		{"unknown node", `{nodeName: node3, containers: [{name: c, command: [x]}]}`, "the sandbox has node1 and node2"},
	} {
		o := podOf(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: "+tt.spec)
		if _, err := admitPod(o.pod); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.want)
		}
	}
	o := podOf(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, command: [x], volumeMounts: [{name: v, mountPath: /v}]}]}")
	if ignored, err := admitPod(o.pod); err != nil || len(ignored) != 1 {
		t.Errorf("volumes: got %v, %v; want one thing left out", ignored, err)
	}
}

func TestEnvironment(t *testing.T) {
	web := &corev1.Service{}
	web.Name = "web"
	web.Spec.ClusterIP = "10.96.0.32"
	web.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "metrics-2", Port: 9090}}
	headless := &corev1.Service{}
	headless.Name, headless.Spec.ClusterIP = "db", "None"

	o := podOf(t, webPod)
	o.pod.Status.PodIP = "10.244.1.2"
	c := &o.pod.Spec.Containers[0]
	env, err := environment(o.pod, c, []*corev1.Service{web, headless}, "/bin")
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "env.txt", strings.Join(env, "\n")+"\n"+strings.Join(commandLine(c, env), " ")+"\n")

	c.Env = []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{}}}}
	if _, err := environment(o.pod, c, nil, "/bin"); err == nil {
		t.Error("a variable from a Secret was accepted")
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"heddle": true, "t-1": true, "Heddle": false, "a/b": false, "a_b": false, "x-pod-y": false, "-a": false, strings.Repeat("a", 33): false} {
		if _, err := New(Options{Name: name}); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := New(Options{Dir: "relative"}); err == nil {
		t.Error("a relative directory was accepted")
	}
}
