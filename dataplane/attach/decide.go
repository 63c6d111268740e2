package attach

import "heddle.io/heddle/bpf"

// Decide asks the compiled decision what it would do with a connection, over
// the live maps and without changing anything. The caller provides the time and
// the random bits.
func (k *Kernel) Decide(in bpf.ConnectIn) (bpf.ConnectOut, error) {
	return bpf.Decide(k.why, in)
}
