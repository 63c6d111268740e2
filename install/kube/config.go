package kube

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// SystemNamespace is where Heddle is installed unless told otherwise.
const SystemNamespace = "heddle-system"

// requestTimeout bounds one request to the API server. Connections of Dial are
// not bound by it: their user sets deadlines.
const requestTimeout = 30 * time.Second

// Options say which cluster is meant.
type Options struct {
	Kubeconfig string // path; empty: $KUBECONFIG, then ~/.kube/config
	Context    string // of the kubeconfig; empty: the current one
}

// Config loads the kubeconfig. In a pod, where there is none, it is the pod's
// service account.
func Config(opt Options) (*rest.Config, error) {
	rules := loading(opt)
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: opt.Context}).ClientConfig()
	switch {
	case err == nil:
	case clientcmd.IsEmptyConfig(err):
		return nil, fmt.Errorf("no cluster is configured: name a kubeconfig by --kubeconfig or $KUBECONFIG (looked in %s)", strings.Join(rules.GetLoadingPrecedence(), ", "))
	case opt.Context != "" && !slices.Contains(contexts(rules), opt.Context):
		return nil, fmt.Errorf("load the kubeconfig: %w: choose one of: %s", err, strings.Join(contexts(rules), ", "))
	default:
		return nil, fmt.Errorf("load the kubeconfig: %w: check --kubeconfig, $KUBECONFIG and --context", err)
	}
	config.UserAgent = "heddlectl"
	config.Timeout = requestTimeout
	return config, nil
}

// Configured reports whether there is a kubeconfig to load.
func Configured(opt Options) bool {
	for _, path := range loading(opt).GetLoadingPrecedence() {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

func loading(opt Options) *clientcmd.ClientConfigLoadingRules {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if opt.Kubeconfig != "" {
		rules.ExplicitPath = opt.Kubeconfig
	}
	return rules
}

// contexts are the names that a user can choose from.
func contexts(rules *clientcmd.ClientConfigLoadingRules) []string {
	loaded, err := rules.Load()
	if err != nil {
		loaded = clientcmdapi.NewConfig()
	}
	names := make([]string, 0, len(loaded.Contexts))
	for name := range loaded.Contexts {
		names = append(names, name)
	}
	return sorted(names)
}
