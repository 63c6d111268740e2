package main

// kind is what a record is about.
type kind string

const (
	booted   kind = "booted"   // Text: release of the kernel; Seconds since power on
	agent    kind = "agent"    // Text: the circumstances in which it found the features that follow
	feature  kind = "feature"  // Text: name of a mechanism; On, Why
	started  kind = "started"  // Package
	line     kind = "line"     // Package; Text: a line of its tests' output
	ended    kind = "ended"    // Package; Text: its failure, empty if none; Seconds; LeftOut
	broken   kind = "broken"   // Text: why the guest could not go on
	finished kind = "finished" // everything ran
)

// Circumstances of an agent.
const (
	withoutConntrack = "without connection tracking"
	withConntrack    = "with connection tracking"
)

// record is one line of JSON from the guest to the host.
type record struct {
	Kind    kind                `json:"kind"`
	Package string              `json:"package,omitempty"`
	Text    string              `json:"text,omitempty"`
	Seconds float64             `json:"seconds,omitempty"`
	On      bool                `json:"on,omitempty"`
	Why     string              `json:"why,omitempty"`
	LeftOut map[string][]string `json:"leftOut,omitempty"` // tests, by reason
}
