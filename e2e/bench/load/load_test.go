package load

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain gives every blocking thread its processor, as Prepare does, and
// leaves the process on all cores.
func TestMain(m *testing.M) {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(16)
	os.Exit(m.Run())
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for us := 1; us <= 1000; us++ {
		h.Add(time.Duration(us) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Microsecond, 0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: 1000 * time.Microsecond} {
		got := h.Quantile(q)
		if off := float64(got)/float64(want) - 1; off < -0.04 || off > 0.04 {
			t.Errorf("quantile %v is %v, want %v within a step", q, got, want)
		}
	}
	h.Add(-time.Second)
	h.Add(100 * time.Hour) // beyond the last slot
	var other Histogram
	other.Merge(&h)
	if other.Total() != 1002 {
		t.Errorf("%d of 1002 were merged", other.Total())
	}
	var none Histogram
	if none.Quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

func TestSlotsAreInOrder(t *testing.T) {
	last := -1
	for v := time.Duration(0); v < 1<<20; v++ {
		s := slot(v)
		if s != last && s != last+1 {
			t.Fatalf("slot of %d is %d after %d", v, s, last)
		}
		last = s
		if m := middleOf(s); slot(m) != s {
			t.Fatalf("the middle %d of slot %d is in slot %d", m, s, slot(m))
		}
	}
}

func TestFits(t *testing.T) {
	at := int64(BlockSize - 100)
	b := append([]byte(nil), pattern[at:at+300]...)
	if !fits(b, at) || !fits(b, at+7*BlockSize) || !fits(b[:3], at) {
		t.Error("the pattern does not fit itself")
	}
	if fits(b, at+1) {
		t.Error("a stream that lost a byte fits")
	}
	b[len(b)-1]++
	if fits(b, at) {
		t.Error("a damaged byte fits")
	}
}

// server is one for all tests of the process: its threads never end, and each
// keeps a processor of the scheduler.
var server = sync.OnceValues(func() (*Server, error) { return Listen(0, 4) })

// TestTraffic: each kind of order against a server of this process.
func TestTraffic(t *testing.T) {
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	target := fmt.Sprintf("127.0.0.1:%d", s.Port)
	for _, o := range []Order{
		{Do: Request, Target: target, Connections: 1, Seconds: 0.02},
		{Do: Request, Target: target, Connections: 3, Warm: 0.01, Seconds: 0.02},
		{Do: Stream, Target: target, Connections: 1, Warm: 0.01, Seconds: 0.02},
		{Do: Connect, Target: target, Connections: 1, Seconds: 0.02},
	} {
		asked := false
		r, err := o.run(func() error { asked = true; return nil })
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if r.Count == 0 || r.Bytes == 0 || r.Seconds < o.Seconds || !asked || r.Made < o.Connections {
			t.Errorf("%+v: %+v, asked to go: %v", o, r, asked)
		}
		if o.Do != Stream && (r.P50 <= 0 || r.P99 < r.P50) {
			t.Errorf("%+v: latencies %v and %v", o, r.P50, r.P99)
		}
	}
}

// TestDamageIsSeen: a server that answers something else makes the order fail.
func TestDamageIsSeen(t *testing.T) {
	for name, reply := range map[string]func(net.Conn, []byte){
		"another reply": func(c net.Conn, m []byte) { m[500]++; _, _ = c.Write(m) },
		"half a reply":  func(c net.Conn, m []byte) { _, _ = c.Write(m[:512]) },
		"no reply":      func(net.Conn, []byte) {},
		"more":          func(c net.Conn, m []byte) { _, _ = c.Write(append(m, 0)) },
	} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				m := make([]byte, MessageSize)
				if n, _ := c.Read(m); n > 0 {
					reply(c, m)
				}
				c.Close()
			}
		}()
		o := Order{Do: Connect, Target: l.Addr().String(), Connections: 1, Seconds: 0.02}
		if r, err := o.run(func() error { return nil }); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
		l.Close()
	}
}

func TestNobodyThere(t *testing.T) {
	o := Order{Do: Request, Target: "127.0.0.1:1", Connections: 1, Seconds: 0.01}
	if _, err := o.run(func() error { return nil }); err == nil || !strings.Contains(err.Error(), "ECONNREFUSED") {
		t.Errorf("a connection to nobody: %v", err)
	}
}
