// Package charttest holds the Helm chart and the kustomize overlays to what
// heddlectl installs.
package charttest
