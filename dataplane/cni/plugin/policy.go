package plugin

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// What becomes of pods while the agent does not answer.
const (
	Wait = "Wait" // they do not start; kubelet tries again
	Drop = "Drop" // they start, and their packets are dropped until the agent has decided
)

// Policy is the contents of the policy file, which the agent writes.
type Policy struct {
	WhenAgentDown    string   `json:"whenAgentDown"`
	ExemptNamespaces []string `json:"exemptNamespaces"`
}

// always are the namespaces that are exempt whatever the file says: the cluster
// and Heddle itself must be able to come up.
var always = []string{"kube-system", "heddle-system"}

// Exempt reports whether the pods of a namespace start without the agent.
func (p Policy) Exempt(namespace string) bool {
	return slices.Contains(always, namespace) || slices.Contains(p.ExemptNamespaces, namespace)
}

// Encode is the contents of a policy file.
func (p Policy) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the policy of the CNI plugin: %w", err)
	}
	return append(data, '\n'), nil
}

// maxPolicy bounds the policy file, in bytes.
const maxPolicy = 1 << 20

// readPolicy reads a policy file. The policy is the safe one, Wait, when the
// error is not nil: the file is missing, unreadable, or somebody else's.
func readPolicy(path string) (Policy, error) {
	safe := Policy{WhenAgentDown: Wait}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return safe, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return safe, fmt.Errorf("policy file %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 || st.Mode&0o022 != 0 {
		return safe, fmt.Errorf("policy file %s is not root's alone to write: remove it, the agent writes it anew", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPolicy))
	if err != nil {
		return safe, fmt.Errorf("policy file %s: %w", path, err)
	}
	var p Policy
	if err := json.Unmarshal(data, &p); err != nil {
		return safe, fmt.Errorf("policy file %s: %w", path, err)
	}
	if p.WhenAgentDown != Wait && p.WhenAgentDown != Drop {
		return safe, fmt.Errorf("policy file %s: whenAgentDown is %q, it must be %s or %s", path, p.WhenAgentDown, Wait, Drop)
	}
	return p, nil
}
