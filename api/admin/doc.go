// Package admin holds the JSON that the admin sockets speak: HTTP over a unix
// socket, one for the agent of each node and one for the controller. It has no
// logic; the server sides are dataplane/admin and controlplane/plane, the
// client is heddlectl.
//
// Paths of the agent:
//
//	GET    /v1/status             AgentStatus
//	GET    /v1/services           []Service
//	GET    /v1/clusters           []Cluster
//	GET    /v1/pods               []Pod
//	GET    /v1/maps               []Map
//	GET    /v1/maps/{name}        MapDump
//	POST   /v1/why                WhyRequest -> Why
//	PUT    /v1/pods               PodRequest -> Pod (enrolment; used by CNI and the sandbox)
//	DELETE /v1/pods/{ns}/{name}   ?uid= and ?netns= (a path) say which pod of that name; another one stays
//	GET    /metrics               Prometheus text
//
// The CNI socket of the agent has PUT and DELETE of pods and nothing else.
//
// Paths of the controller:
//
//	GET /v1/status                ControllerStatus
//	GET /metrics                  Prometheus text
//
// Every error is an Error object with a status code of 400 or above.
package admin
