// Package bpf is the contract with the kernel: the BPF programs and maps of a
// node (C, in src), the Go types of what the maps hold, and the names and
// meanings of the reasons that programs give. It attaches and pins nothing.
package bpf
