// Package manifests holds what Heddle is in a cluster: the objects of the
// kustomize base, which is the source of truth, the CRDs, and those of Gateway
// API. Objects decodes them and applies an installer's options; the overlays and
// the Helm chart are tested to give the same.
package manifests
