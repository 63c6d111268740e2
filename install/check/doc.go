// Package check looks whether a cluster fits Heddle, and whether Heddle is well
// in it. Gather asks, Judge thinks: every line that is not ok says why and what
// to do.
package check
