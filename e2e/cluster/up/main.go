// Command up brings up a Kubernetes cluster and keeps it until it is
// interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"heddle.io/heddle/e2e/cluster"
)

func main() {
	cluster.Main()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run() error {
	o := cluster.Options{Log: os.Stdout}
	fake := flag.Int("kwok", 0, "fake nodes beside the real ones")
	dns := flag.Bool("dns", false, "run CoreDNS")
	images := flag.String("images", "", "directory whose archives (*.tar) every node gets as images, as make images writes them")
	build := flag.Bool("build", false, "build the binaries, and end")
	flag.StringVar(&o.Name, "name", "", "name of the cluster's cgroups (default: one with the pid)")
	flag.StringVar(&o.Dir, "dir", "", "empty directory for all that the cluster writes, where its logs stay (default: a temporary one, without)")
	flag.IntVar(&o.Nodes, "nodes", 2, "nodes; -1 for a control plane alone")
	flag.StringVar(&o.Cgroup, "cgroup", cluster.CgroupV2, "what nodes see of cgroups: v2 or hybrid")
	flag.StringVar(&o.Proxy, "proxy", cluster.ProxyNFTables, "mode of kube-proxy: nftables, iptables or none")
	flag.BoolVar(&o.DualStack, "dual", false, "IPv6 beside IPv4")
	flag.BoolVar(&o.UserNamespaces, "userns", false, "run a containerd that can give pods user namespaces (hostUsers: false)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.Bin, err = cluster.Build(ctx, ".", os.Stdout); err != nil {
		return err
	}
	if *build || o.UserNamespaces {
		err = cluster.BuildContainerd(ctx, ".", os.Stdout)
	}
	if err != nil || *build {
		return err
	}
	c, err := cluster.Up(ctx, o)
	if err != nil {
		return err
	}
	err = further(ctx, c, *images, *dns, *fake)
	if err == nil {
		fmt.Printf("\nkubectl:  %s get pods -A\nnetwork:  nsenter --net=%s, with KUBECONFIG=%s\nlogs:     %s\nCtrl-C takes it down\n",
			c.KubectlScript(), c.Netns(), c.Kubeconfig(), c.Logs())
		<-ctx.Done()
	}
	began := time.Now()
	if downErr := c.Down(); downErr != nil {
		return downErr
	}
	fmt.Printf("down after %.1f s\n", time.Since(began).Seconds())
	return err
}

func further(ctx context.Context, c *cluster.Cluster, images string, dns bool, fake int) error {
	if images != "" {
		if err := load(ctx, c, images); err != nil {
			return err
		}
	}
	if dns {
		if err := c.CoreDNS(ctx); err != nil {
			return err
		}
	}
	if fake > 0 {
		return c.Kwok(ctx, fake)
	}
	return nil
}

func load(ctx context.Context, c *cluster.Cluster, dir string) error {
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		return err
	}
	if len(archives) == 0 {
		return fmt.Errorf("no image archive (*.tar) in %s: run make images, or correct -images", dir)
	}
	for _, archive := range archives {
		if err := c.LoadImage(ctx, archive); err != nil {
			return err
		}
		fmt.Printf("loaded %s\n", archive)
	}
	return nil
}
