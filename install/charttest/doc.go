// Package charttest holds the Helm chart and the kustomize overlays to what
// heddlectl installs. Run it with -count=1: Go's cache of test results does not
// see files outside of the module.
package charttest
