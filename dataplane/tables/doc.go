// Package tables carries plans to the kernel: it applies the operations of
// dataplane/plan to the BPF maps, and reads back what they hold and what the
// programs counted. It decides nothing.
package tables
