package plugin

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/hold"
	"heddle.io/heddle/dataplane/netns"
)

// Times. Together they stay far below the two minutes that kubelet gives the
// runtime, so that its own message is what the pod's events show.
const (
	dialTimeout   = 2 * time.Second
	retryEvery    = 200 * time.Millisecond
	forgetTimeout = 5 * time.Second
	// patience is how long an agent that does not answer is asked again, answer
	// how long one that does may take.
	patience = 20 * time.Second
	answer   = 20 * time.Second
	// Pods that need not wait for the agent wait this long for one that is there.
	exemptAnswer = 2 * time.Second
	// dropPatience bridges the restart of an agent: a pod that starts captured is
	// better than one that starts cut off.
	dropPatience = 5 * time.Second
)

// Funcs are the commands of the plugin.
func Funcs() skel.CNIFuncs {
	return skel.CNIFuncs{Add: add, Del: del, Check: check, GC: nothing, Status: nothing}
}

// nothing is enough for GC, because the agent finds out by itself which pods
// are gone; and for STATUS. A plugin that is not ready makes the node so, and
// pods would be driven off a node whose agent is being replaced.
func nothing(*skel.CmdArgs) error { return nil }

// add enrols a pod and prints the result of the plugins before.
func add(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if err := enrol(c, args); err != nil {
		return err
	}
	if _, err := os.Stdout.Write(append(c.Previous, '\n')); err != nil {
		return types.NewError(types.ErrIOFailure, "heddle-cni: writing the result", err.Error())
	}
	return nil
}

// check announces the pod once more: nothing happens when it is as it should
// be, and what is wrong is an error or repaired.
func check(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	return enrol(c, args)
}

func enrol(c conf, args *skel.CmdArgs) error {
	previous, err := c.previous()
	if err != nil {
		return err
	}
	p, err := podOf(args.Args)
	if err != nil {
		return nil // a container that is nobody's pod cannot be in the mesh
	}
	addresses, err := previous.addresses()
	if err != nil {
		return err
	}
	host, index, err := netns.HostSide(args.Netns, args.IfName)
	if err != nil {
		return types.NewError(types.ErrInternal, fmt.Sprintf("heddle-cni: pod %s: its interface is not to be found", p), err.Error())
	}
	request := admin.PodRequest{
		Namespace: p.namespace, Name: p.name, UID: p.uid,
		Netns: args.Netns, Interface: host, Addresses: addresses,
	}
	policy, policyErr := readPolicy(c.Policy)
	asked := newAgent(c.Socket)
	if policy.Exempt(p.namespace) {
		// It may be in the mesh all the same. Otherwise it starts, and the agent
		// enrols it when it finds it.
		if err := asked.announce(request, 0, exemptAnswer); err != nil {
			fmt.Fprintf(os.Stderr, "heddle-cni: pod %s starts although it could not be enrolled, because its namespace is exempt: %v\n", p, err)
		}
		return nil
	}
	if policy.WhenAgentDown == Drop {
		err = asked.announce(request, dropPatience, answer)
	} else {
		err = asked.announce(request, patience, answer)
	}
	var refused *refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && !refused.undecided():
		return failed(p, err)
	case policy.WhenAgentDown == Drop && index != 0:
		if held := hold.Put(index); held != nil {
			return failed(p, errors.Join(err, held))
		}
		return nil
	}
	return notYet(p, err, policyErr)
}

// failed: the agent has decided that this pod cannot start.
func failed(p pod, err error) error {
	return types.NewError(types.ErrInternal, fmt.Sprintf("heddle-cni: pod %s cannot be enrolled in the mesh", p), err.Error())
}

// notYet: nobody can tell whether this pod belongs to the mesh, so it waits.
func notYet(p pod, err, policyErr error) error {
	details := fmt.Sprintf("%v; look at the heddle-agent pod of this node (kubectl -n heddle-system get pods -o wide); "+
		"pods of exempt namespaces do not wait, see spec.podStart of MeshConfig", err)
	if policyErr != nil {
		details += fmt.Sprintf("; the policy is Wait because of: %v", policyErr)
	}
	return types.NewError(types.ErrTryAgainLater, fmt.Sprintf("heddle-cni: pod %s waits for Heddle's agent; it is tried again", p), details)
}

// del tells the agent that the pod is gone. It never fails: an agent that is
// down finds out when it starts, and a runtime that cannot delete keeps the pod
// forever.
func del(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	p, err := podOf(args.Args)
	if err != nil {
		return nil
	}
	var refused *refusal
	if err := newAgent(c.Socket).forget(p, args.Netns); err != nil && !errors.As(err, &refused) {
		fmt.Fprintf(os.Stderr, "heddle-cni: pod %s: %v; the agent finds out by itself that the pod is gone\n", p, err)
	}
	return nil
}
