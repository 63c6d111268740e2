// Package client asks the admin sockets of the agent and of the controller.
// The paths and the JSON are in api/admin. A socket that nobody answers on is
// an *Unreachable, an answer that is an error is a *Refused; a caller that
// ends a script with an exit code tells them apart by errors.As.
package client
