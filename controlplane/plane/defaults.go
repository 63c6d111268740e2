package plane

import "time"

// Where the controller is found when nobody says otherwise.
const (
	DefaultSource   = "dir:/etc/heddle/objects"
	DefaultListen   = "unix:///run/heddle/xds.sock"
	DefaultAdmin    = "unix:///run/heddle/controller.sock"
	DefaultStateDir = "/var/lib/heddle/controller"
)

// stopTimeout is how long streams and requests may take to end.
const stopTimeout = 2 * time.Second
