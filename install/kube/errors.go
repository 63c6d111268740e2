package kube

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Denied is an answer of the API server to somebody who may not ask.
type Denied struct {
	Verb, Resource, Namespace string // what is missing; Namespace is empty for the whole cluster
	Err                       error
}

func (e *Denied) Error() string { return e.Err.Error() }

func (e *Denied) Unwrap() error { return e.Err }

// Advice is what to do about it.
func (e *Denied) Advice() string {
	if apierrors.IsUnauthorized(e.Err) {
		return "the credentials of the kubeconfig are not valid any more: log in again"
	}
	where := "in namespace " + e.Namespace
	if e.Namespace == "" {
		where = "in the whole cluster"
	}
	return fmt.Sprintf("ask for the right to %s %s %s", e.Verb, e.Resource, where)
}

func denied(err error, verb, resource, namespace string) error {
	return &Denied{verb, resource, namespace, err}
}

// Unreachable says that the API server did not answer.
type Unreachable struct {
	Server string
	Err    error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("cannot reach the API server %s: %v: check the kubeconfig and the network", e.Server, e.Err)
}

func (e *Unreachable) Unwrap() error { return e.Err }
