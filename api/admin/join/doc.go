// Package join makes an admin socket of a process's standard input and output.
// It is what `heddled admin` and `heddle-controller admin` run, so that somebody
// who may start a program in the pod can ask the socket, and nobody else can.
package join
