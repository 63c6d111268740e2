// Package plugin is what heddle-cni does when a runtime calls it: the last of
// the chain, it asks the agent to enrol the pod whose network was just made, and
// answers when that is done. So no process of a pod in the mesh, its init
// containers included, runs before its traffic is captured.
//
// The result of the plugins before it is passed on as it is. Pods that share
// the node's network never come here.
//
// When the agent does not answer, the policy file decides, see Policy; a pod
// never starts outside the mesh because of that, unless its namespace is
// exempt.
package plugin
