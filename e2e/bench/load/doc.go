// Package load is the traffic of the bench: a client and a server that do as
// little as possible besides the system calls, so that what is measured is the
// way between them.
//
// A connection that is measured alone has a thread of its own on each side, which
// blocks in read(2) and write(2); several share one that waits for all of them. The
// calls are raw: Go's scheduler does not see them, so it neither hands the
// processor on nor wakes other threads for them. That is also why a process of
// this package never collects garbage (Prepare), and allocates nothing while it
// measures.
//
// Every byte that counts is checked: replies in full, streams at both ends of
// each read and by their length.
package load
