// Package issue decides who talks to whom between the controller and the nodes of
// a cluster.
//
// The controller shows a certificate of an authority that the replicas share: its
// key is in a Secret, its certificate in a ConfigMap that nodes mount. A node shows
// the token of its agent's ServiceAccount, which the API server checks, and which
// says on which node the agent's pod runs: an agent is served as that node only.
// A connection is authenticated when its stream opens. A token that expires later
// does not end the stream; the next one needs a newer token.
package issue
