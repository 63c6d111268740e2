package source

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAnAddressStaysWithItsOwner(t *testing.T) {
	d := follow(t)
	d.write("b.yaml", service("b", "10.96.0.1", 80))
	d.until("b [10.96.0.1]")
	d.write("a.yaml", service("a", "10.96.0.1", 80)) // comes later, so it loses, whatever its name
	d.until("b [10.96.0.1], AddressInUse Service shop/a")
	if detail := d.detail(); !strings.Contains(detail, "10.96.0.1:80/tcp belongs to Service shop/b") || !strings.Contains(detail, "file a.yaml, document 1 (line 1)") {
		t.Errorf("detail: %s", detail)
	}
	d.restart()
	d.until("b [10.96.0.1], AddressInUse Service shop/a")
	d.write("a.yaml", service("a", "10.96.0.1", 81)) // another port of the address
	d.until("a [10.96.0.1], b [10.96.0.1]")
	d.write("a.yaml", service("a", "10.96.0.1", 80)) // a change into what is taken
	d.until("a [10.96.0.1], b [10.96.0.1], AddressInUse Service shop/a")
	if detail := d.detail(); !strings.Contains(detail, "its last good version stays in force") {
		t.Errorf("detail: %s", detail)
	}
	d.remove("b.yaml")
	d.until("a [10.96.0.1]")
	if port := d.last.Snapshot.Services[key("shop", "a")].Ports[0].Port; port != 80 {
		t.Errorf("port %d, want 80", port)
	}
}

func TestPodAddresses(t *testing.T) {
	d := follow(t)
	host := strings.Replace(pod("host", "10.0.0.1"), "spec: {", "spec: {hostNetwork: true, ", 1)
	done := strings.Replace(pod("done", "10.0.0.1"), "status: {", "status: {phase: Succeeded, ", 1)
	d.write("a.yaml", pod("p1", "10.0.0.1")+"---\n"+host+"---\n"+done)
	d.until("done [10.0.0.1], host [10.0.0.1], p1 [10.0.0.1]")
	d.write("b.yaml", pod("p0", "10.0.0.1"))
	d.until("done [10.0.0.1], host [10.0.0.1], p1 [10.0.0.1], AddressInUse Pod shop/p0")
	// The replacement of a pod gets its address in the same change.
	d.remove("b.yaml")
	d.write("a.yaml", pod("p2", "10.0.0.1"))
	d.until("p2 [10.0.0.1]")
}

// TestAge: among objects that come together, the older one has the address.
func TestAge(t *testing.T) {
	at := func(name, when string) string {
		return strings.Replace(service(name, "10.96.0.1", 80), "name: "+name, `creationTimestamp: "`+when+`", name: `+name, 1)
	}
	d := follow(t)
	d.write("a.yaml", at("a", "2026-02-02T00:00:00Z")+"---\n"+at("b", "2026-02-01T00:00:00Z"))
	d.until("b [10.96.0.1], AddressInUse Service shop/a")
}

func TestOneObjectInSeveralFiles(t *testing.T) {
	d := follow(t)
	d.write("b.yaml", pod("p1", "10.0.0.2"))
	d.until("p1 [10.0.0.2]")
	d.write("a.yaml", pod("p1", "10.0.0.1"))
	d.until("p1 [10.0.0.2], Duplicate Pod shop/p1")
	if detail := d.detail(); detail != "it is in force as file b.yaml has it, and also in a.yaml; remove it from all but one" {
		t.Errorf("detail: %s", detail)
	}
	d.restart()
	d.until("p1 [10.0.0.2], Duplicate Pod shop/p1")
	d.remove("b.yaml")
	d.until("p1 [10.0.0.1]")
	d.write("a.yaml", pod("p1", "10.0.0.3")+"---\n"+pod("p1", "10.0.0.4"))
	d.until("p1 [10.0.0.3], Duplicate Pod shop/p1")
}

// objects makes files of one pod each, as "name address" pairs.
func podFiles(pods string) []*file {
	var out []*file
	for _, p := range strings.Split(pods, ", ") {
		name, ip, _ := strings.Cut(p, " ")
		documents, err := decode([]byte(pod(name, ip)), nil)
		if err != nil {
			panic(err)
		}
		out = append(out, &file{name: name, documents: documents})
	}
	return out
}

func inForce(objects map[id]owned) string {
	d := directory{last: Update{Snapshot: snapshot(objects, nil)}}
	return strings.NewReplacer("[", "", "]", "").Replace(d.state())
}

// TestExchange: what several objects do with their addresses at once.
func TestExchange(t *testing.T) {
	for name, c := range map[string]struct{ before, wanted, after string }{
		"swap":              {"a 10.0.0.1, b 10.0.0.2", "a 10.0.0.2, b 10.0.0.1", "a 10.0.0.2, b 10.0.0.1"},
		"ring":              {"a 10.0.0.1, b 10.0.0.2, c 10.0.0.3", "a 10.0.0.2, b 10.0.0.3, c 10.0.0.1", "a 10.0.0.2, b 10.0.0.3, c 10.0.0.1"},
		"handed on":         {"a 10.0.0.1", "a 10.0.0.2, b 10.0.0.1", "a 10.0.0.2, b 10.0.0.1"},
		"into what stays":   {"a 10.0.0.1, b 10.0.0.2", "a 10.0.0.2, b 10.0.0.2", "a 10.0.0.1, b 10.0.0.2"},
		"chain into a wall": {"a 10.0.0.1, b 10.0.0.2, c 10.0.0.3", "a 10.0.0.2, b 10.0.0.3, c 10.0.0.3", "a 10.0.0.1, b 10.0.0.2, c 10.0.0.3"},
		"new one behind a chain into a wall": {"b 10.0.0.2, c 10.0.0.3", "a 10.0.0.2, b 10.0.0.3, c 10.0.0.3",
			"b 10.0.0.2, c 10.0.0.3"},
	} {
		t.Run(name, func(t *testing.T) {
			before, problems := admit(podFiles(c.before), nil)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			after, _ := admit(podFiles(c.wanted), before)
			if got := inForce(after); got != c.after {
				t.Errorf("in force: %s, want %s", got, c.after)
			}
		})
	}
}

// TestLongChain: thousands of objects that pass their addresses on, into a wall,
// take a bounded number of rounds, and nothing is lost.
func TestLongChain(t *testing.T) {
	const n = 2000
	var before, wanted []string
	for i := range n {
		before = append(before, fmt.Sprintf("p%04d 10.0.%d.%d", i, i/200, i%200+1))
		next := min(i+1, n-1)
		wanted = append(wanted, fmt.Sprintf("p%04d 10.0.%d.%d", i, next/200, next%200+1))
	}
	old, _ := admit(podFiles(strings.Join(before, ", ")), nil)
	start := time.Now()
	after, problems := admit(podFiles(strings.Join(wanted, ", ")), old)
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	if len(after) != n || len(problems) != n-1 {
		t.Errorf("%d objects and %d problems, want %d and %d", len(after), len(problems), n, n-1)
	}
	holders := map[claim]id{}
	for i, o := range after {
		for _, c := range o.object.claims() {
			if other, taken := holders[c]; taken {
				t.Fatalf("%s and %s both have %s", i, other, c)
			}
			holders[c] = i
		}
	}
}

func TestTooManyObjects(t *testing.T) {
	many := &file{name: "b", documents: make([]document, maxObjects)}
	one := podFiles("a 10.0.0.1")[0]
	after, problems := admit([]*file{one, many}, nil)
	if len(after) != 1 || len(problems) != 1 || problems[0].Reason != "TooManyObjects" {
		t.Errorf("%d objects, problems %v", len(after), problems)
	}
}
