package sandbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// serviceEnv are the variables by which a pod finds the Services that existed
// before it: NAME_SERVICE_HOST, NAME_SERVICE_PORT, NAME_SERVICE_PORT_PORTNAME.
func serviceEnv(services []*corev1.Service) []corev1.EnvVar {
	sorted := slices.SortedFunc(slices.Values(services), func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	var out []corev1.EnvVar
	for _, svc := range sorted {
		if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone || len(svc.Spec.Ports) == 0 {
			continue
		}
		name := envName(svc.Name)
		out = append(out,
			corev1.EnvVar{Name: name + "_SERVICE_HOST", Value: svc.Spec.ClusterIP},
			corev1.EnvVar{Name: name + "_SERVICE_PORT", Value: portText(svc.Spec.Ports[0].Port)})
		for _, p := range svc.Spec.Ports {
			if p.Name != "" {
				out = append(out, corev1.EnvVar{Name: name + "_SERVICE_PORT_" + envName(p.Name), Value: portText(p.Port)})
			}
		}
	}
	return out
}

func envName(s string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(s))
}

func portText(p int32) string { return strconv.Itoa(int(p)) }

// environment are the variables of a container: PATH and HOSTNAME, the
// Services, then its own, which win.
func environment(pod *corev1.Pod, c *corev1.Container, services []*corev1.Service, path string) ([]string, error) {
	values := map[string]string{}
	var order []string
	set := func(name, value string) {
		if _, ok := values[name]; !ok {
			order = append(order, name)
		}
		values[name] = value
	}
	set("PATH", path)
	set("HOSTNAME", pod.Name)
	set("HOME", "/root")
	for _, e := range serviceEnv(services) {
		set(e.Name, e.Value)
	}
	for _, e := range c.Env {
		value := expand(e.Value, values)
		if e.ValueFrom != nil {
			var err error
			if value, err = fieldValue(pod, e.ValueFrom); err != nil {
				return nil, fmt.Errorf("variable %s of container %s: %w", e.Name, c.Name, err)
			}
		}
		set(e.Name, value)
	}
	out := make([]string, len(order))
	for i, name := range order {
		out[i] = name + "=" + values[name]
	}
	return out, nil
}

// fieldValue is what a fieldRef names. There are no ConfigMaps or Secrets here.
func fieldValue(pod *corev1.Pod, from *corev1.EnvVarSource) (string, error) {
	if from.FieldRef == nil {
		return "", fmt.Errorf("the sandbox knows valueFrom.fieldRef only")
	}
	switch path := from.FieldRef.FieldPath; path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "status.podIP":
		return pod.Status.PodIP, nil
	case "status.hostIP":
		return pod.Status.HostIP, nil
	case "status.podIPs":
		var ips []string
		for _, ip := range pod.Status.PodIPs {
			ips = append(ips, ip.IP)
		}
		return strings.Join(ips, ","), nil
	default:
		return "", fmt.Errorf("the sandbox does not know fieldPath %s", path)
	}
}

// expand replaces $(NAME) as Kubernetes does: $$(NAME) is a literal $(NAME),
// and a name that is not known stays as it is written.
func expand(s string, values map[string]string) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:i])
		s = s[i:]
		end := strings.IndexByte(s, ')')
		switch {
		case s[1] == '$':
			out.WriteByte('$')
			s = s[2:]
		case s[1] == '(' && end > 0:
			if value, ok := values[s[2:end]]; ok {
				out.WriteString(value)
			} else {
				out.WriteString(s[:end+1])
			}
			s = s[end+1:]
		default:
			out.WriteByte('$')
			s = s[1:]
		}
	}
}

// commandLine is a container's command and arguments.
func commandLine(c *corev1.Container, env []string) []string {
	values := map[string]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		values[name] = value
	}
	var out []string
	for _, word := range slices.Concat(c.Command, c.Args) {
		out = append(out, expand(word, values))
	}
	return out
}
