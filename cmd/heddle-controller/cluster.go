package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"heddle.io/heddle/controlplane/plane"
)

// clusterFlags are those for --source=kubernetes.
type clusterFlags struct {
	kubeconfig string
	namespace  string
	pod        string
}

func (f *clusterFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "how to reach the API server (default as the pod that this is)")
	flags.StringVar(&f.namespace, "namespace", "heddle-system", "namespace of the controller and the agents, with --source=kubernetes")
	flags.StringVar(&f.pod, "pod-name", "", "name of the controller's pod (default the host name)")
}

// load finds the API server and this controller's place in it.
func (f *clusterFlags) load() (*plane.Cluster, error) {
	var api *rest.Config
	var err error
	if f.kubeconfig == "" {
		api, err = rest.InClusterConfig()
	} else {
		api, err = clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: --source=kubernetes: %w; outside of a pod give --kubeconfig", errUsage, err)
	}
	pod := f.pod
	if pod == "" {
		if pod, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("%w: give --pod-name: %w", errUsage, err)
		}
	}
	return &plane.Cluster{API: api, Namespace: f.namespace, Pod: pod}, nil
}
