// Package semantics is what an application may expect of a TCP connection, as
// a table: each row is a small program over real sockets whose outcome is a
// text that does not depend on time ("recv 5, ECONNRESET, EOF"). A mechanism
// that moves bytes past the kernel's own path is on by default only where every
// row says the same with it as without it, on the running kernel.
//
//	Row ── Run(Ends) ──► Outcome (text)
//	                        │ plain TCP, and the mechanism
//	                        ▼
//	               Compare, Differences
//
// A row needs a place for its client and one for its server: network namespaces
// that reach each other. World makes throw-away ones, joined as a CNI plugin
// joins pods of a node, for whoever has none. What is attached to them is the
// caller's business.
//
// # Noise
//
// Rows wait for states, never for a time that should be enough, and say nothing
// that scheduling decides. Where a busy machine makes one say something else
// all the same, that must not switch a mechanism off: Compare runs a row that
// differs up to three times more (one that hangs: once), in both worlds, and
// reports it only when it differed every time.
//
// # Bounds
//
// A row that hangs is an outcome ("hangs after …"), by the row's limit. Rows
// run one after the other in the process that calls Run. Except where the row
// is about many connections or many bytes, one holds a few sockets, a few
// hundred KiB and two or three threads. Rows of the short form change nothing
// outside their sockets; of the others, some write a sysctl of the server's
// namespace and some the handler of one real-time signal.
package semantics
