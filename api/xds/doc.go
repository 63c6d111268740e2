// Package xds holds the resources that Heddle adds to the xDS protocol, and
// their type URLs. It has no logic: the control plane writes these messages
// (controlplane/translate), the node reads them (dataplane/feed).
//
// Generated code is committed; `make generate` rebuilds it.
package xds

//go:generate protoc --go_out=. --go_opt=paths=source_relative --plugin=protoc-gen-go=../../.build/bin/protoc-gen-go heddle.proto
