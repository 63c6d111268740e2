package source

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestConvergence: whatever is done to the files, and however often the
// controller is killed, in the end what is in force is what the files say.
func TestConvergence(t *testing.T) {
	d := follow(t)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	path := func(i int) string { return filepath.Join(d.path, fmt.Sprintf("f%d.yaml", i)) }
	// Objects of file i have addresses of their own, so that nothing conflicts
	// but the same pod in two files after a rename.
	content := func(i int) string {
		text := ""
		for j := range random.IntN(4) {
			text += "---\n" + pod(fmt.Sprintf("p%d-%d", i, j), fmt.Sprintf("10.%d.%d.%d", i, j, 1+random.IntN(200)))
		}
		return text
	}
	const files = 8
	for range 400 {
		i := random.IntN(files)
		switch random.IntN(8) {
		case 0:
			_ = os.Remove(path(i))
		case 1:
			_ = os.Rename(path(i), path(random.IntN(files)))
		case 2:
			check(t, os.WriteFile(path(i), []byte(content(i)), 0o644)) // in place
		case 3:
			d.write(fmt.Sprintf("f%d.yaml", i), content(i)+"---\n{")
		case 4:
			d.write(fmt.Sprintf("f%d.yaml", i), "---\n"+pod(fmt.Sprintf("p%d-0", i), "nowhere"))
		case 5:
			time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
		case 6:
			if random.IntN(10) == 0 {
				d.restart()
			}
		default:
			d.write(fmt.Sprintf("f%d.yaml", i), content(i))
		}
	}
	for i := range files {
		if random.IntN(4) > 0 {
			d.write(fmt.Sprintf("f%d.yaml", i), content(i))
		} else {
			_ = os.Remove(path(i))
		}
	}
	fresh := &directory{t: t, path: d.path}
	fresh.start()
	defer fresh.stop()
	waitFor(t, func() bool { fresh.next(); return fresh.last.Snapshot != nil })
	if len(fresh.last.Problems) > 0 {
		t.Fatal(fresh.last.Problems)
	}
	d.until(fresh.state())
	d.steady(fresh.state())
}
