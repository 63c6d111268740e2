// Package ca is a small certificate authority: it makes itself, is read back
// from PEM and checked, and issues short-lived certificates for servers. It knows
// neither where its key is kept nor who asks.
package ca
