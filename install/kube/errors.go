package kube

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// NoSuchKind reports whether a list failed because the cluster does not know
// the kind of object.
func NoSuchKind(err error) bool { return apierrors.IsNotFound(err) }

// Denied is an answer of the API server to somebody who may not ask.
type Denied struct {
	Verb, Resource, Namespace string // what is missing; Namespace is empty for the whole cluster
	Err                       error
}

func (e *Denied) Error() string {
	if apierrors.IsUnauthorized(e.Err) {
		return "the API server does not know you: " + e.Advice()
	}
	return fmt.Sprintf("the API server gives you no right to %s %s %s: %s", e.Verb, e.Resource, e.where(), e.Advice())
}

func (e *Denied) Unwrap() error { return e.Err }

// Advice is what to do about it; Error ends in it.
func (e *Denied) Advice() string {
	if apierrors.IsUnauthorized(e.Err) {
		return "the credentials of the kubeconfig are not valid any more, log in again"
	}
	flag := "-n " + e.Namespace
	if e.Namespace == "" {
		flag = "-A"
	}
	return fmt.Sprintf("ask for it (kubectl auth can-i %s %s %s)", e.Verb, e.Resource, flag)
}

func (e *Denied) where() string {
	if e.Namespace == "" {
		return "in the whole cluster"
	}
	return "in namespace " + e.Namespace
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
