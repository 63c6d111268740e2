package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The world of the demo: namespace shop is in the mesh, namespace plain is
// not. nginx and redis are taken where they are installed; our own echo stands
// in otherwise.
//
//	node1: shop/web-v1 shop/near plain/near  clients shop/client-1 plain/client
//	node2: shop/web-v2 shop/far  plain/far   shop/cache  client shop/client-2

// nginxConf answers every request with a version.
const nginxConf = `daemon off; user root; worker_processes 1; pid nginx.pid; error_log stderr;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server { listen 8080; listen [::]:8080; location / { default_type text/plain; return 200 "%s\n"; } }
}`

// installed finds the programs of the machine that the demo can use.
func (a *app) installed(name string) bool {
	for _, dir := range filepath.SplitList(a.env("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin") {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// webCommand is a web server that answers with a version.
func (a *app) webCommand(version string) []string {
	if !a.installed("nginx") {
		return []string{"heddlectl", "echo", "--http=:8080", "--name=" + version}
	}
	script := "cat > nginx.conf <<'EOF'\n" + fmt.Sprintf(nginxConf, version) + "\nEOF\n" +
		`exec nginx -e stderr -p "$PWD" -c "$PWD/nginx.conf"`
	return []string{"sh", "-c", script}
}

func (a *app) cacheCommand() []string {
	if !a.installed("redis-server") {
		return []string{"heddlectl", "echo", "--tcp=:6379"}
	}
	return []string{"redis-server", "--port", "6379", "--save", "", "--appendonly", "no", "--protected-mode", "no", "--bind", "*", "-::*"}
}

// manifest is the demo's YAML. (JSON is YAML: what has quotes in it is written
// as JSON.)
func (a *app) manifest() []byte {
	var out strings.Builder
	out.WriteString("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {heddle.io/mesh: enabled}}}\n")
	out.WriteString("---\n{apiVersion: v1, kind: Namespace, metadata: {name: plain}}\n")
	service := func(name, selector string, port, target int) {
		fmt.Fprintf(&out, `---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: shop}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: %s
  ports:
  - {name: tcp, port: %d, targetPort: %d}
`, name, selector, port, target)
		if name == "near" || name == "far" {
			fmt.Fprintf(&out, "  - {name: udp, port: 7000, targetPort: 7000, protocol: UDP}\n")
		}
	}
	pod := func(node, namespace, name, labels string, port int, command ...string) {
		words, _ := json.Marshal(command) // strings always encode
		fmt.Fprintf(&out, `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: %s}
spec:
  nodeName: %s
  containers:
  - name: main
    command: %s
`, name, namespace, labels, node, words)
		if port != 0 {
			fmt.Fprintf(&out, "    readinessProbe: {tcpSocket: {port: %d}}\n", port)
		}
	}
	service("web", "{app: web}", 80, 8080)
	service("web-v1", "{app: web, version: v1}", 80, 8080)
	service("web-v2", "{app: web, version: v2}", 80, 8080)
	service("cache", "{app: cache}", 6379, 6379)
	service("near", "{app: near}", 80, 8080)
	service("far", "{app: far}", 80, 8080)

	pod("node1", "shop", "web-v1", "{app: web, version: v1}", 8080, a.webCommand("v1")...)
	pod("node2", "shop", "web-v2", "{app: web, version: v2}", 8080, a.webCommand("v2")...)
	pod("node2", "shop", "cache", "{app: cache}", 6379, a.cacheCommand()...)
	for _, namespace := range []string{"shop", "plain"} {
		pod("node1", namespace, "near", "{app: near}", 8080, "heddlectl", "echo", "--http=:8080", "--udp=:7000")
		pod("node2", namespace, "far", "{app: far}", 8080, "heddlectl", "echo", "--http=:8080", "--udp=:7000")
	}
	pod("node1", "shop", "client-1", "{app: client}", 0, "sleep", "infinity")
	pod("node2", "shop", "client-2", "{app: client}", 0, "sleep", "infinity")
	pod("node1", "plain", "client", "{app: client}", 0, "sleep", "infinity")
	return []byte(out.String())
}

// canaryRoute spreads web over its two versions.
func canaryRoute(v1, v2 int) []byte {
	return fmt.Appendf(nil, `apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: web-canary, namespace: shop}
spec:
  parentRefs:
  - {group: "", kind: Service, name: web, port: 80}
  rules:
  - backendRefs:
    - {name: web-v1, port: 80, weight: %d}
    - {name: web-v2, port: 80, weight: %d}
`, v1, v2)
}
