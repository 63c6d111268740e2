// Package source reads the objects of a cluster and keeps a model of them: from a
// directory of YAML and JSON files, or from the API server of Kubernetes. Objects
// of both go through the same conversion and the same checks.
//
// Files are written by people and by programs, sometimes badly and sometimes
// halfway; and an API server may have objects of a newer version than this one
// knows. So every object is checked on its own; one that cannot be used is
// reported, and its last good version stays in force. A directory keeps them also
// when the controller starts again. An API server has no last good version to
// give: after a start, an object that cannot be used is left out.
//
// What is read of an API server: the metadata of Namespaces, Nodes and
// CustomResourceDefinitions; Pods that have not ended, Services, EndpointSlices;
// of Gateway API, TCPRoutes, TLSRoutes, ReferenceGrants, and the parents of
// HTTPRoutes and GRPCRoutes, which are reported as not programmed; and Heddle's
// own objects. The definitions of the latter two may come and go. For each kind
// there is one watch, of the best version that is served and understood.
package source
