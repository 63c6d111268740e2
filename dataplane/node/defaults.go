package node

import (
	"time"

	"heddle.io/heddle/dataplane/attach"
)

// Where things are when nobody says otherwise. The cgroup is found by itself:
// the root of the node's cgroup2 mount.
const (
	DefaultServer   = "unix:///run/heddle/xds.sock"
	DefaultAdmin    = "unix:///run/heddle/agent.sock"
	DefaultPins     = "/sys/fs/bpf/heddle"
	DefaultStateDir = "/var/lib/heddle/agent"
	DefaultTC       = "auto"
	DefaultFastPath = attach.FastPathAuto

	DefaultSocketBypass = "auto"
)

// Files in the state directory.
const (
	cacheFile    = "feed"
	podsFile     = "pods.json"
	selfTestFile = "self-test.json"
)

const (
	// maxLimit bounds the size of a map that can be asked for.
	maxLimit = 1 << 24

	// selfTestTimeout bounds the self-test, which takes about two seconds;
	// emulated processors need much longer.
	selfTestTimeout = 2 * time.Minute
	// selfTestGrace is what a row that hangs takes to give up.
	selfTestGrace = 5 * time.Second
	// maxVerdict bounds the file with its result, in bytes.
	maxVerdict = 1 << 20

	// announceTimeout is how long an announcement waits when it does not say.
	announceTimeout = 10 * time.Second

	// findGap is how soon a running pod that nobody announced is looked for, after
	// the control plane has named it; findEvery how soon again, as long as the same
	// are missing, and twice as long each time up to findRarely: a pod may never be
	// found, and a scan reads a file of every process.
	findGap    = time.Second
	findEvery  = 10 * time.Second
	findRarely = 5 * time.Minute

	// cacheGrace is how long an agent that found programmed tables waits for
	// the control plane before it puts the state from its disk in force. The
	// tables may be newer: a killed agent writes its cache a little later than
	// its tables.
	cacheGrace = 2 * time.Second

	// maxGap bounds the pause after putting a state in force, in which further
	// changes gather. The first change after a quiet time is never delayed.
	maxGap = 20 * time.Millisecond

	// Retries after a map operation or an interface failed.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second

	// checkEvery is how often the kernel's tables are compared with what was
	// applied. Reading them takes at most 1 % of the time.
	checkEvery = 10 * time.Second
	checkShare = 100

	// driftShown is how long a repaired difference stays among the problems.
	driftShown = 5 * time.Minute
)
