// Package endpoints finds the control plane where no service address works: on a
// node whose kube-proxy is absent, or replaced by what Heddle itself programs. It
// is a gRPC resolver that asks the API server for the EndpointSlices of a Service,
// with the few lines of HTTP that takes: an agent needs no Kubernetes client for
// anything else.
package endpoints
