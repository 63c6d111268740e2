// Package mtls makes TLS configurations from certificate files. It is the only
// place that decides what Heddle's own connections accept: TLS 1.3, servers with a
// certificate of one authority that the client knows, and clients with one of it
// too, or with another proof inside the connection.
//
// It knows neither Kubernetes nor what travels over the connections.
package mtls
