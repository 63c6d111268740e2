// Package netns runs code inside another network namespace and reads the
// cookie by which the kernel programs know it.
package netns
