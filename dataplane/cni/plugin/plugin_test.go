package plugin

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"heddle.io/heddle/api/admin"
	"heddle.io/heddle/dataplane/hold"
	"heddle.io/heddle/dataplane/nettest"
)

// rig is a pod whose network was made, and an agent that answers as told.
type rig struct {
	t       *testing.T
	node    *nettest.NS
	args    *skel.CmdArgs
	ifindex uint32
	asked   []admin.PodRequest
}

func newRig(t *testing.T, namespace, policy string, status int, answer string) *rig {
	t.Helper()
	nettest.RequireRoot(t)
	r := &rig{t: t, node: nettest.Netns(t)}
	pod := r.node.Pod(t, "veth1", "10.1.0.2", "fd00::2")
	r.ifindex = r.node.Ifindex(t, "veth1")
	dir := t.TempDir()
	entry := map[string]any{
		"cniVersion": "1.0.0", "name": "n", "type": Type,
		"socket": filepath.Join(dir, "cni.sock"), "policy": filepath.Join(dir, "cni.json"),
		"prevResult": map[string]any{
			"cniVersion": "1.0.0",
			"interfaces": []any{map[string]any{"name": "cni0"}, map[string]any{"name": "veth1"}, map[string]any{"name": "eth0", "sandbox": pod.Path()}},
			"ips":        []any{map[string]any{"interface": 2, "address": "10.1.0.2/24"}, map[string]any{"address": "fd00::2/64"}, map[string]any{"interface": 0, "address": "10.9.9.9/24"}},
		},
	}
	stdin, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	if policy != "" {
		if err := os.WriteFile(entry["policy"].(string), []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.args = &skel.CmdArgs{ContainerID: "c", Netns: pod.Path(), IfName: "eth0", StdinData: stdin,
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=" + namespace + ";K8S_POD_NAME=web;K8S_POD_UID=u1;OTHER"}
	if status != 0 {
		r.serve(entry["socket"].(string), status, answer)
	}
	return r
}

func (r *rig) serve(socket string, status int, answer string) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		r.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var p admin.PodRequest
		if q.Method == http.MethodPut {
			if err := json.NewDecoder(q.Body).Decode(&p); err != nil {
				r.t.Error(err)
			}
		} else {
			p.Name = q.Method + " " + q.URL.String()
		}
		r.asked = append(r.asked, p)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(answer))
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	r.t.Cleanup(server.Close)
}

// enrol runs what ADD and CHECK have in common, in the node's namespace.
func (r *rig) enrol() error {
	var err error
	r.node.Do(r.t, func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var c conf
		if c, err = parse(r.args.StdinData); err == nil {
			err = enrol(c, r.args)
		}
	})
	return err
}

func (r *rig) held() bool {
	var held map[uint32]bool
	r.node.Do(r.t, func() {
		var err error
		if held, err = hold.List(); err != nil {
			r.t.Error(err)
		}
	})
	return held[r.ifindex]
}

const (
	late = `{"error":"the control plane did not name it"}`
	drop = `{"whenAgentDown":"Drop","exemptNamespaces":["infra"]}`
)

func TestEnrol(t *testing.T) {
	for name, test := range map[string]struct {
		namespace, policy string
		status            int
		answer            string
		code              uint // of the error; 0: none
		want              string
		held              bool
	}{
		"enrolled":                     {"shop", "", 200, `{}`, 0, "", false},
		"undecided, no policy":         {"shop", "", 504, late, types.ErrTryAgainLater, "did not name it", false},
		"undecided, wait":              {"shop", `{"whenAgentDown":"Wait"}`, 504, late, types.ErrTryAgainLater, "heddle-agent pod of this node", false},
		"undecided, policy is bad":     {"shop", `{"whenAgentDown":"Pass"}`, 504, late, types.ErrTryAgainLater, `"Pass"`, false},
		"undecided, drop":              {"shop", drop, 504, late, 0, "", true},
		"busy, drop":                   {"shop", drop, 503, late, 0, "", true},
		"refused, drop":                {"shop", drop, 422, `{"error":"is in the mesh, but"}`, types.ErrInternal, "is in the mesh, but", false},
		"refused":                      {"shop", "", 403, `nonsense`, types.ErrInternal, "403", false},
		"exempt, undecided":            {"infra", drop, 504, late, 0, "", false},
		"exempt by policy, no agent":   {"infra", drop, 0, "", 0, "", false},
		"always exempt, no agent":      {"kube-system", "", 0, "", 0, "", false},
		"Heddle's own, without policy": {"heddle-system", "", 0, "", 0, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, test.namespace, test.policy, test.status, test.answer)
			err := r.enrol()
			var e *types.Error
			switch {
			case test.code == 0 && err != nil:
				t.Errorf("got %v", err)
			case test.code != 0 && (!errors.As(err, &e) || e.Code != test.code || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want code %d and %q", err, test.code, test.want)
			}
			if r.held() != test.held {
				t.Errorf("held: %v", r.held())
			}
			if len(r.asked) == 0 {
				return
			}
			if p := r.asked[0]; p.Namespace != test.namespace || p.Name != "web" || p.UID != "u1" || p.Interface != "veth1" ||
				p.Netns != r.args.Netns || strings.Join(p.Addresses, " ") != "10.1.0.2 fd00::2" {
				t.Errorf("asked %+v", p)
			}
		})
	}
}

func TestDelNamesTheSandbox(t *testing.T) {
	r := newRig(t, "shop", "", 404, `{"error":"not announced"}`)
	if err := del(r.args); err != nil {
		t.Fatal(err)
	}
	if len(r.asked) != 1 || !strings.HasPrefix(r.asked[0].Name, "DELETE /v1/pods/shop/web?netns=%2Fproc%2F") || !strings.HasSuffix(r.asked[0].Name, "&uid=u1") {
		t.Errorf("asked %+v", r.asked)
	}
	gone := newRig(t, "shop", "", 0, "")
	if err := del(gone.args); err != nil {
		t.Errorf("without an agent: %v", err)
	}
}

func TestWhatIsNoPodPasses(t *testing.T) {
	r := newRig(t, "shop", "", 504, late)
	r.args.Args = "IgnoreUnknown=1"
	if err := r.enrol(); err != nil || len(r.asked) != 0 {
		t.Errorf("got %v, asked %+v", err, r.asked)
	}
}

func TestConfigurationIsRefused(t *testing.T) {
	for want, stdin := range map[string]string{
		"no JSON":             `{`,
		"there is no prev":    `{"cniVersion":"1.0.0","type":"heddle-cni"}`,
		"heddle-cni: prevRes": `{"prevResult":{"ips":[{"address":"nowhere"}]}}`,
	} {
		c, err := parse([]byte(stdin))
		if err == nil {
			err = enrol(c, &skel.CmdArgs{Args: "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b"})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", stdin, err, want)
		}
	}
}

// A policy file that another user may write says nothing.
func TestPolicyIsRootsAlone(t *testing.T) {
	nettest.RequireRoot(t)
	path := filepath.Join(t.TempDir(), "cni.json")
	for name, change := range map[string]func() error{
		"writable by the group": func() error { return os.Chmod(path, 0o660) },
		"another user's":        func() error { return os.Chown(path, 65534, 65534) },
		"a link":                func() error { return errors.Join(os.Rename(path, path+".to"), os.Symlink(path+".to", path)) },
	} {
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte(drop), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := readPolicy(path); err != nil || p.WhenAgentDown != Drop || !p.Exempt("infra") || p.Exempt("shop") {
			t.Fatalf("read %+v, %v", p, err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if p, err := readPolicy(path); err == nil || p.WhenAgentDown != Wait || p.Exempt("infra") || !p.Exempt("kube-system") {
			t.Errorf("%s: read %+v, %v", name, p, err)
		}
	}
}

func FuzzConf(f *testing.F) {
	f.Add([]byte(`{"prevResult":{"interfaces":[{"name":"a"}],"ips":[{"interface":0,"address":"10.0.0.1/8"}]}}`), "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b")
	f.Fuzz(func(t *testing.T, stdin []byte, args string) {
		c, err := parse(stdin)
		if err != nil {
			return
		}
		if r, err := c.previous(); err == nil {
			_, _ = r.addresses()
		}
		if p, err := podOf(args); err == nil && (p.namespace == "" || p.name == "") {
			t.Errorf("%q is pod %q", args, p)
		}
	})
}
