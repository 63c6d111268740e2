package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"heddle.io/heddle/install/kube"
)

// Logs of one container in a sysdump.
const (
	logLines = 5000
	logBytes = 4 << 20
)

// everywhere are the kinds of which a sysdump has all objects: those that
// Heddle is told what to do by. A cluster may not have some of them.
var everywhere = []kube.Resource{
	{Group: "policy.heddle.io", Version: "v1alpha1", Name: "meshconfigs"},
	{Group: "policy.heddle.io", Version: "v1alpha1", Name: "trafficpolicies"},
	{Group: "policy.heddle.io", Version: "v1alpha1", Name: "externalservices"},
	{Group: "gateway.networking.k8s.io", Version: "v1", Name: "tcproutes"},
	{Group: "gateway.networking.k8s.io", Version: "v1", Name: "tlsroutes"},
	{Group: "gateway.networking.k8s.io", Version: "v1", Name: "httproutes"},
	{Group: "gateway.networking.k8s.io", Version: "v1", Name: "grpcroutes"},
	{Group: "gateway.networking.k8s.io", Version: "v1", Name: "referencegrants"},
	{Version: "v1", Name: "nodes"},
	{Version: "v1", Name: "namespaces"},
}

// older are the versions of kinds in clusters with an older Gateway API.
var older = map[string]string{"tcproutes": "v1alpha2", "tlsroutes": "v1alpha2", "referencegrants": "v1beta1"}

// ours are the kinds of Heddle's own namespace. Secrets and ConfigMaps are not
// among them on purpose.
var ours = []kube.Resource{
	{Version: "v1", Name: "pods"},
	{Version: "v1", Name: "services"},
	{Version: "v1", Name: "serviceaccounts"},
	{Version: "v1", Name: "events"},
	{Group: "apps", Version: "v1", Name: "daemonsets"},
	{Group: "apps", Version: "v1", Name: "deployments"},
	{Group: "coordination.k8s.io", Version: "v1", Name: "leases"},
	{Group: "discovery.k8s.io", Version: "v1", Name: "endpointslices"},
	{Group: "networking.k8s.io", Version: "v1", Name: "networkpolicies"},
}

// meshed are the kinds of a namespace in the mesh.
var meshed = []kube.Resource{
	{Version: "v1", Name: "pods"},
	{Version: "v1", Name: "services"},
	{Version: "v1", Name: "events"},
	{Group: "discovery.k8s.io", Version: "v1", Name: "endpointslices"},
}

// maxNamespaces bounds the namespaces of the mesh that are in a sysdump.
const maxNamespaces = 200

// dumpCluster writes the objects and logs that the caller may read.
func dumpCluster(ctx context.Context, d *dump, c *kube.Cluster) {
	var wanted []kube.Resource
	wanted = append(wanted, everywhere...)
	wanted = append(wanted, within(c.System(), ours)...)
	namespaces, err := c.MeshNamespaces(ctx)
	if err != nil {
		d.miss("cluster/namespaces of the mesh", err)
	}
	if more := len(namespaces) - maxNamespaces; more > 0 {
		d.miss("cluster/namespaces of the mesh", fmt.Errorf("%d more than %d", more, maxNamespaces))
		namespaces = namespaces[:maxNamespaces]
	}
	for _, ns := range namespaces {
		if ns != c.System() {
			wanted = append(wanted, within(ns, meshed)...)
		}
	}
	each(len(wanted), func(i int) { dumpObjects(ctx, d, c, wanted[i]) })
	dumpLogs(ctx, d, c)
}

func within(namespace string, kinds []kube.Resource) []kube.Resource {
	out := make([]kube.Resource, len(kinds))
	for i, r := range kinds {
		r.Namespace = namespace
		out[i] = r
	}
	return out
}

func dumpObjects(ctx context.Context, d *dump, c *kube.Cluster, r kube.Resource) {
	name := "cluster/" + strings.TrimPrefix(r.Namespace+"/", "/") + r.Name + ".json"
	items, cut, err := c.List(ctx, r)
	if version, ok := older[r.Name]; ok && kube.NoSuchKind(err) {
		r.Version = version
		items, cut, err = c.List(ctx, r)
	}
	switch {
	case kube.NoSuchKind(err):
		d.json(name, "the cluster does not have this kind of object")
		return
	case err != nil:
		d.miss(name, err)
		return
	}
	if cut {
		d.miss(name, fmt.Errorf("cut after %d objects", len(items)))
	}
	out := make([]json.RawMessage, 0, len(items))
	for _, item := range items {
		item, err := trimmed(item)
		if err != nil {
			d.miss(name, err)
			continue
		}
		out = append(out, item)
	}
	d.json(name, out)
}

func dumpLogs(ctx context.Context, d *dump, c *kube.Cluster) {
	var pods []kube.Pod
	for _, find := range []func(context.Context) ([]kube.Pod, error){c.Controllers, c.Agents} {
		found, err := find(ctx)
		if err != nil {
			d.miss("logs", err)
		}
		pods = append(pods, found...)
	}
	each(len(pods), func(i int) {
		p := &pods[i]
		text, err := c.Logs(ctx, p, false, logLines, logBytes)
		d.have("logs/"+p.Name+".log", []byte(text), err)
		if !p.Restarted {
			return
		}
		text, err = c.Logs(ctx, p, true, logLines, logBytes)
		d.have("logs/"+p.Name+".previous.log", []byte(text), err)
	})
}
