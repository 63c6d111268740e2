package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// Type is the plugin's name: of its binary, and in the type of its entry.
const Type = "heddle-cni"

// Where the agent is when the entry does not say.
const (
	DefaultSocket = "/run/heddle/cni.sock"
	DefaultPolicy = "/run/heddle/cni.json"
)

// Entry is the plugin's entry in a list of plugins.
type Entry struct {
	Type   string `json:"type"`
	Socket string `json:"socket"`
	Policy string `json:"policy"`
}

// conf is what the runtime sends: the entry, with the result of the plugins
// before.
type conf struct {
	Entry
	CNIVersion string          `json:"cniVersion"`
	Previous   json.RawMessage `json:"prevResult"`
}

func parse(stdin []byte) (conf, error) {
	c := conf{Entry: Entry{Socket: DefaultSocket, Policy: DefaultPolicy}}
	if err := json.Unmarshal(stdin, &c); err != nil {
		return c, types.NewError(types.ErrDecodingFailure, "heddle-cni: the configuration is no JSON", err.Error())
	}
	return c, nil
}

// result is what matters of the result of the plugins before; it has these
// fields in every version since 0.3.0.
type result struct {
	Interfaces []struct {
		Name    string `json:"name"`
		Sandbox string `json:"sandbox"`
	} `json:"interfaces"`
	IPs []struct {
		Interface *int   `json:"interface"`
		Address   string `json:"address"`
	} `json:"ips"`
}

func (c conf) previous() (result, error) {
	var r result
	if len(c.Previous) == 0 || string(c.Previous) == "null" {
		return r, types.NewError(types.ErrInvalidNetworkConfig, "heddle-cni: there is no prevResult",
			"it makes no network of its own: it belongs at the end of a list of plugins of cniVersion 0.3.0 or later")
	}
	if err := json.Unmarshal(c.Previous, &r); err != nil {
		return r, types.NewError(types.ErrDecodingFailure, "heddle-cni: prevResult", err.Error())
	}
	return r, nil
}

// addresses are those of the interface in the sandbox; those that name no
// interface count as well.
func (r result) addresses() ([]string, error) {
	var out []string
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Sandbox == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(ip.Address)
		if err != nil {
			return nil, types.NewError(types.ErrDecodingFailure, "heddle-cni: prevResult", fmt.Sprintf("address %q: %v", ip.Address, err))
		}
		out = append(out, prefix.Addr().Unmap().String())
	}
	return out, nil
}

// pod is whose network it is.
type pod struct{ namespace, name, uid string }

// errNoPod: the network is not a Kubernetes pod's.
var errNoPod = errors.New("no pod")

// podOf reads CNI_ARGS. Not types.LoadArgs, which fails on pairs it does not
// know, and those are the runtime's business.
func podOf(args string) (pod, error) {
	var p pod
	for pair := range strings.SplitSeq(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "K8S_POD_NAMESPACE":
			p.namespace = value
		case "K8S_POD_NAME":
			p.name = value
		case "K8S_POD_UID":
			p.uid = value
		}
	}
	if p.namespace == "" || p.name == "" {
		return p, errNoPod
	}
	return p, nil
}

func (p pod) String() string { return p.namespace + "/" + p.name }
