package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probeLimit bounds how long a pod has to become ready.
const probeLimit = time.Minute

// probe asks a container once whether it is ready, from its node, as kubelet
// does. The node's own sockets belong to no pod and are never captured.
func (s *Sandbox) probe(ctx context.Context, pod *corev1.Pod, c *corev1.Container, p *podState) error {
	probe := c.ReadinessProbe
	timeout := time.Second
	if probe.TimeoutSeconds > 0 {
		timeout = time.Duration(probe.TimeoutSeconds) * time.Second
	}
	switch {
	case probe.TCPSocket != nil:
		conn, err := s.dialPod(p, c, probe.TCPSocket.Port, timeout)
		if err != nil {
			return err
		}
		return conn.Close()
	case probe.HTTPGet != nil:
		return s.getPod(p, c, probe.HTTPGet, timeout)
	case probe.Exec != nil:
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		cmd, err := s.Command(ctx, p.Namespace, p.Name, probe.Exec.Command...)
		if err != nil {
			return err
		}
		return cmd.Run()
	}
	return fmt.Errorf("Pod %s/%s: the sandbox knows tcpSocket, httpGet and exec probes only", pod.Namespace, pod.Name)
}

func (s *Sandbox) dialPod(p *podState, c *corev1.Container, port intstr.IntOrString, timeout time.Duration) (net.Conn, error) {
	number, err := containerPort(c, port)
	if err != nil {
		return nil, err
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(p.Addresses[0]), number)
	var conn net.Conn
	err = inNetns(s.nodeNetns(p.Node), func() (err error) {
		// One literal address: Dial makes its socket on this very thread.
		conn, err = net.DialTimeout("tcp", to.String(), timeout)
		return err
	})
	return conn, err
}

func (s *Sandbox) getPod(p *podState, c *corev1.Container, get *corev1.HTTPGetAction, timeout time.Duration) error {
	conn, err := s.dialPod(p, c, get.Port, timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	path := get.Path
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+p.Addresses[0]+path, nil)
	if err != nil {
		return err
	}
	for _, h := range get.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	req.Header.Set("User-Agent", "kube-probe/heddle-sandbox")
	req.Close = true
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return nil
}

// containerPort resolves a port's name.
func containerPort(c *corev1.Container, port intstr.IntOrString) (uint16, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		number = 0
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				number = int(p.ContainerPort)
			}
		}
	}
	if number < 1 || number > 65535 {
		return 0, fmt.Errorf("container %s has no port %s", c.Name, port.String())
	}
	return uint16(number), nil
}
