// Package sourcetest is an API server for tests: it lists and streams objects
// that a test puts into it, over real HTTP to the real client, and can fail on
// demand. It checks nothing and defaults nothing.
package sourcetest
