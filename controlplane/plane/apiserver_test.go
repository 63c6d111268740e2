package plane

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"heddle.io/heddle/dataplane/nettest"
	testcluster "heddle.io/heddle/e2e/cluster"
	"heddle.io/heddle/install/manifests"
)

// kubernetes is the control plane of a cluster, without nodes: the tests that
// need one share it, and the first brings it up.
var kubernetes struct {
	once sync.Once
	up   *testcluster.Cluster
	api  *rest.Config
	err  error
}

func TestMain(m *testing.M) {
	testcluster.Main()
	code := m.Run()
	if kubernetes.up != nil {
		if err := kubernetes.up.Down(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// apiServer leads to a real API server with the CRDs of Heddle and Gateway API.
func apiServer(t *testing.T) *rest.Config {
	t.Helper()
	nettest.RequireRoot(t)
	kubernetes.once.Do(func() { kubernetes.err = bringUp(t.Context()) })
	if kubernetes.err != nil {
		t.Fatal(kubernetes.err)
	}
	return rest.CopyConfig(kubernetes.api)
}

func bringUp(ctx context.Context) error {
	bin, err := testcluster.Build(ctx, "../..", os.Stderr)
	if err != nil {
		return err
	}
	c, err := testcluster.Up(ctx, testcluster.Options{Bin: bin, Nodes: -1})
	if err != nil {
		return err
	}
	kubernetes.up = c
	if err := define(ctx, c); err != nil {
		return err
	}
	kubernetes.api, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return err
	}
	kubernetes.api.Dial = c.DialContext
	return nil
}

// define makes the kinds that the controller reads.
func define(ctx context.Context, c *testcluster.Cluster) error {
	ours, err := manifests.CRDs()
	if err != nil {
		return err
	}
	routes, err := manifests.GatewayCRDs()
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, definition := range append(ours, routes...) {
		document, err := yaml.Marshal(definition.Object)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "---\n%s", document)
	}
	// Not applied: the annotation for that would be larger than annotations may be.
	if _, err := c.KubectlInput(ctx, strings.NewReader(text.String()), "create", "-f", "-"); err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout="+patience.String())
	return err
}
