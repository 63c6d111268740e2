// Package crd holds the CustomResourceDefinitions of api/v1alpha1, as
// controller-gen writes them.
package crd

import "embed"

// Files are the definitions, one *.yaml for each kind.
//
//go:embed *.yaml
var Files embed.FS
