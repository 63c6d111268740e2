// Package cni keeps Heddle's CNI plugin in the chain of the container runtime:
// its binary among the plugins, its entry at the end of the list of plugins
// that the runtime uses, its policy file.
//
// The runtime uses the first file of its configuration directory, by name. The
// entry is inserted into that file's text, so everything else in it stays as it
// is, byte by byte; taking it out again gives the file as it was. A file that
// holds a single plugin cannot be a chain: it is left alone and wrapped by a
// list of Heddle's own, which sorts before it and follows its changes.
//
// A file that somebody else writes again is repaired as soon as that is seen,
// and when another becomes the first, that one gets the entry. Somebody who
// writes without end is not fought: repairs are bounded, and it is a problem in
// the agent's status until it is over. Pods that start in a moment without the
// entry are found by the agent, enrolled late, and counted.
//
// The chain stays when the agent ends: pods that start meanwhile wait for the
// next one. Remove takes it out for good.
//
// What an operator sees in status:
//
//	CNINotChained         pods start without the plugin; the detail says why
//	CNIRewritten          another program rewrites the file again and again
//	StartedOutsideChain   of a pod: it ran before it was enrolled
package cni
