// Package feedtest is a control plane for tests of the node: a real delta ADS
// server that serves whatever a test gives it, well-formed or not, and that can
// be killed and started again. Only tests import it.
package feedtest
