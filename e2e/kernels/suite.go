package main

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"
)

// program is the test binary of a package, and what of it runs.
type program struct {
	Package string `json:"package"`
	// Must lists tests that have to pass on every kernel, for every change: what
	// Heddle cannot do without. One that is renamed or left out fails the run.
	// A test that also stands in Without has to pass where the mechanism is on.
	Must []string `json:"must,omitempty"`
	// Run lists the tests that run, all when empty.
	Run []string `json:"run,omitempty"`
	// Without lists, by mechanism, tests that ask for it by name. They are left
	// out where the kernel does not have it. "*/tcx" is tcx of all tests.
	Without map[string][]string `json:"without,omitempty"`
	// Heavy lists tests with more traffic than an emulated processor carries in
	// a few seconds. They run with make test only.
	Heavy []string `json:"heavy,omitempty"`
}

// suite is what runs on every kernel, in this order.
var suite = []program{
	{
		Package: "bpf", // the compiled decision, and the hooks one by one
		Must: []string{
			"TestLoad", "TestObjectSize", "TestLayout", "TestMapLayouts", // budgets and layouts
			"TestDecide", "TestShares", "TestEndpointShares",
			"TestFromPod", "TestToPod", "TestNotProgrammed",
			"TestConnectTCP", "TestUnconnected", "TestRefused", "TestMigrateSockets",
		},
	},
	{Package: "dataplane/netns"},
	{Package: "dataplane/nettest"},
	{
		Package: "dataplane/attach",
		Must: []string{
			"TestConnect", "TestConnectedUDP", "TestUnconnectedUDP", // from a pod, through a service
			"TestNoEndpoint",                                           // refused in the call itself
			"TestMaxConnections", "TestEjection", "TestConnectTimeout", // a policy
			"TestUntouched",                 // who is not enrolled
			"TestFloor/clsact", "TestSweep", // works on every kernel
			"TestUpgrade", "TestRemove",
		},
		Without: map[string][]string{
			"socket_bypass": {"TestBypass", "TestBypassOtherAddresses", "TestBypassNeedsBothWords", "TestBypassLeavesOthersAlone",
				"TestBypassBulk", "TestBypassKeepsTheOrder", "TestBypassRefusesTLS", "TestBypassSlowReader", "TestBypassIsBounded",
				"TestBypassManyConnections", "TestBypassSwitchedOff", "TestBypassSurvivesRemove", "TestBypassSurvivesUpgrade"},
			"tcx": {"*/tcx", "*/*/tcx", "TestInterfacesAreAdopted", "TestAttachIfaceNamesWhatIsMissing"},
		},
		Heavy: []string{"TestAdoption", "TestInterfacesAreAdopted", "TestUpgradeUnderLoad", "TestCrash",
			"TestBypassBulk", "TestBypassManyConnections"},
	},
	{
		Package: "dataplane/tables",
		Must:    []string{"TestDecisionsMatchTheSnapshot"},
		Heavy:   []string{"TestStatsWhileTheyChange"},
	},
	{
		Package: "dataplane/node", // the whole agent, with a control plane in the test
		Must: []string{
			"TestSmoke", "TestPodEntersAndLeavesTheMesh", "TestNoEndpointIsRefusedAtOnce",
			"TestLostStateDirectory", // killed, and adopted
		},
		Without: map[string][]string{
			"socket_bypass": {"TestSocketBypass", "TestSocketBypassIsAttachedOnDemand"},
		},
	},
}

// binary is the name of the program's test binary.
func (p program) binary() string { return path.Base(p.Package) + ".test" }

// arguments are for the test binary on a kernel without the mechanisms of off.
func (p program) arguments(only string, off []string) []string {
	args := []string{"-test.v", "-test.timeout=" + programTimeout.String()}
	switch {
	case only != "":
		args = append(args, "-test.run="+only)
	case p.Run != nil:
		args = append(args, "-test.run=^("+strings.Join(p.Run, "|")+")$")
	}
	var skip []string
	for _, tests := range p.leftOut(off) {
		for _, name := range tests {
			skip = append(skip, expression(name))
		}
	}
	if skip == nil {
		return args
	}
	// Of several expressions the first that fits counts, and one for subtests
	// fits their parents too, without effect: those come last.
	slices.SortFunc(skip, func(a, b string) int {
		return cmp.Or(strings.Count(a, "/")-strings.Count(b, "/"), cmp.Compare(a, b))
	})
	return append(args, "-test.skip="+strings.Join(skip, "|"))
}

// expression is what matches a test's name and no other.
func expression(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if parts[i] = ""; part != "*" {
			parts[i] = "^" + regexp.QuoteMeta(part) + "$"
		}
	}
	return strings.Join(parts, "/")
}

// leftOut are the tests that do not run, by reason.
func (p program) leftOut(off []string) map[string][]string {
	tests := map[string][]string{}
	for _, mechanism := range off {
		if p.Without[mechanism] != nil {
			tests["without "+mechanism] = p.Without[mechanism]
		}
	}
	if p.Heavy != nil {
		tests["too heavy for an emulated processor"] = p.Heavy
	}
	return tests
}
