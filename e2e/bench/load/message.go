package load

import "encoding/binary"

// MessageSize is the size of a request and of its reply.
const MessageSize = 1024

// BlockSize is the size of each write of a stream.
const BlockSize = 64 << 10

// The first byte of a message says what the server shall do with it.
const (
	askReply    byte = 'r' // reply, and wait for the next
	askTogether byte = 't' // the same, on the thread that many connections share
	askLast     byte = 'c' // reply and close
	askSink     byte = 's' // swallow the stream that follows, reply with its length
)

// newMessage is a message for the server, with bytes that say where they belong.
func newMessage(ask byte) []byte {
	m := make([]byte, MessageSize)
	copy(m, pattern)
	m[0] = ask
	return m
}

// stamp makes a message differ from every other one of its connection, at both ends.
func stamp(m []byte, number uint64) {
	binary.LittleEndian.PutUint64(m[8:], number)
	binary.LittleEndian.PutUint64(m[len(m)-8:], ^number)
}

// pattern is what a stream repeats, twice, so that any BlockSize bytes of it can
// be compared without going round.
var pattern = func() []byte {
	p := make([]byte, 2*BlockSize)
	for i := range BlockSize {
		p[i] = byte(i*167 + i>>8)
	}
	copy(p[BlockSize:], p[:BlockSize])
	return p
}()

// edge is how much of both ends of a read is compared: a lost, doubled or moved
// byte shifts everything after it, so the ends show it.
const edge = 16

// fits reports whether bytes are those of a stream at a position.
func fits(b []byte, position int64) bool {
	want := pattern[position%BlockSize:][:len(b)]
	n := min(edge, len(b))
	return string(b[:n]) == string(want[:n]) && string(b[len(b)-n:]) == string(want[len(b)-n:])
}
