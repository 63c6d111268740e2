// Package cni keeps Heddle's CNI plugin in the chain of the container runtime:
// its binary among the plugins, its entry at the end of the list of plugins
// that the runtime uses, its policy file.
//
// The runtime uses the first file of its configuration directory, by name. That
// one becomes Heddle's: 00-heddle.conflist, a copy of the file that was the first
// before, with the entry at the end. It follows the changes of what it copies. A
// network plugin that writes its file anew whenever the node starts, as many do,
// therefore lets no pod get by, although no agent runs yet.
//
// Programs that tolerate no other file remove it. For their sake the entry is in
// the other file as well, inserted into its text: everything else there stays as
// it is, byte by byte, and taking the entry out gives the file as it was. (A file
// that holds a single plugin instead of a list is left alone.)
//
// What somebody else writes or removes is repaired as soon as that is seen.
// Somebody who writes without end is not fought: repairs are bounded, and when no
// file has the entry any more it is a problem in the agent's status until it is
// over. Pods that start in such a moment are found by the agent, enrolled late,
// and counted.
//
// The chain stays when the agent ends: pods that start meanwhile wait for the
// next one. Remove takes it out for good.
//
// What an operator sees in status:
//
//	CNINotChained         pods start without the plugin; the detail says why
//	CNIRewritten          another program takes the plugin out again and again
//	StartedOutsideChain   of a pod: it ran before it was enrolled
package cni
