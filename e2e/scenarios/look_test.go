package scenarios

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
)

// What heddlectl shows under traffic is what the kernel does: top has the rates
// of the pods and the service that talk, why names what carries a connection,
// and sysdump has everything.
func TestLook(t *testing.T) {
	m := up(t, "shop.yaml")
	m.waitServices("shop/backend")
	busy := m.start("shop/client", "dial", "-workers=2", "-for=5m", "-n=100000000", "10.96.1.1:8001")
	m.eventually("top services", func() error {
		var top struct {
			Rows []struct {
				Service, Port string
				Nodes         int
				Connections   float64
			}
		}
		if err := m.top(&top, "services"); err != nil {
			return err
		}
		if len(top.Rows) != 1 || top.Rows[0].Service != "shop/backend" || top.Rows[0].Port != "8001/tcp p1" || top.Rows[0].Nodes != 1 || top.Rows[0].Connections <= 0 {
			return fmt.Errorf("got %+v", top.Rows)
		}
		return nil
	})
	m.eventually("top pods", func() error {
		var top struct {
			Rows []struct {
				Pod, Node          string
				FromBytes, ToBytes float64
			}
		}
		if err := m.top(&top, "pods"); err != nil {
			return err
		}
		if len(top.Rows) != 1 || top.Rows[0].Pod != "shop/client" || top.Rows[0].Node != "node1" || top.Rows[0].FromBytes <= 0 || top.Rows[0].ToBytes <= 0 {
			return fmt.Errorf("got %+v", top.Rows)
		}
		return nil
	})
	if res := busy.stop(); res.Failed > 0 {
		t.Errorf("%d connections failed while we looked: %v", res.Failed, res.Errors)
	}

	m.waitCtl([]string{"why", "shop/client", m.podIP("shop/backend-1", false) + ":8001"}, "carried   by fast_path: ")
	m.waitCtl([]string{"why", "shop/client", m.podIP("shop/backend-2", false) + ":8001"}, "carried   by stack: ")
	m.mustContain(m.ctl("sysdump", "-o", filepath.Join(t.TempDir(), "dump.tar.gz")), ": 17 files\n")
}

// top reads the first row of one table, the largest.
func (m *mesh) top(into any, of string) error {
	m.t.Helper()
	out := m.ctl("top", of, "--once", "--rows=1", "-o=json")
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("%w in %s", err, out)
	}
	return nil
}
