// Package mtls makes TLS configurations from certificate files. It is the only
// place that decides what Heddle's own connections accept: TLS 1.3, both sides
// with a certificate of one authority, nothing else.
//
// It knows neither Kubernetes nor what travels over the connections.
package mtls
