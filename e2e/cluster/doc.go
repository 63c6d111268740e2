// Package cluster brings up a real Kubernetes cluster on one Linux machine, for
// tests: etcd, the API server, the controller manager and the scheduler in one
// network namespace, and nodes that each have namespaces and cgroups of their
// own, with containerd, runc, CNI plugins, the kubelet and kube-proxy in them.
// It needs root, Go modules and a few of Debian's packages; no Docker and no
// registry. From the binaries to Ready nodes it takes some five seconds.
//
//	func TestMain(m *testing.M) {
//		cluster.Main() // first: the nodes are this binary under another name
//		…
//	}
//
//	bin, err := cluster.Build(ctx, root, os.Stderr) // minutes, the first time
//	c, err := cluster.Up(ctx, cluster.Options{Bin: bin})
//	defer c.Down()
//	err = c.LoadImage(ctx, "heddled.tar")
//	err = c.Apply(ctx, objects)
//	out, err := c.Kubectl(ctx, "get", "pods", "-A")
//	out, err = c.Run(ctx, ".build/bin/heddlectl", "status") // with KUBECONFIG
//	out, err = c.Node(1).Exec(ctx, "nft", "list", "ruleset")
//	err = c.Node(1).Reboot(ctx)
//
// The cluster's network leads nowhere. This process stays outside of it: it
// dials with DialContext, and programs run inside by Run. client-go takes both
// from here:
//
//	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
//	config.Dial = c.DialContext
//
// # Lifetime
//
// Every process of a cluster dies with the one that called Up, however that
// ends: control plane and nodes are started on a thread that ends with it, and
// the kernel kills what a thread started when it ends. A node is killed as a
// whole with its process 1. Network namespaces have no names, and are gone with
// the last process inside. What does not go by itself, cgroups and files, is taken
// away by a janitor, a process that waits for the owner's end. Should the janitor be
// killed too, the next Up finds the cluster in /run/heddle-e2e and cleans up;
// clusters there whose entry is locked are alive, and left alone.
package cluster
