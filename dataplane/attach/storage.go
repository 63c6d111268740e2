package attach

import (
	"errors"

	"github.com/cilium/ebpf"

	"heddle.io/heddle/bpf"
)

const storageMigration = "storage_migration"

// copyStorage gives every socket with an entry in s one in t, unless it has
// one. Without the kernel's support old sockets lose their entry: getpeername
// then shows the endpoint, and their end is not counted. The connections
// themselves do not depend on it.
func (o *opening) copyStorage(t *table, s *source) error {
	if !o.storageFeature().On {
		o.Log.Warn("sockets that exist now lose what they remember: the kernel cannot walk socket storage", "map", t.name)
		return nil
	}
	_, err := bpf.MigrateSockets(s.m, t.now, func(old []byte) ([]byte, error) {
		value, ok := s.value.apply(old)
		if !ok {
			return nil, errors.New("a number does not fit into the new layout")
		}
		return value, nil
	})
	return err
}

// storageFeature finds out, once, whether the kernel can walk socket storage,
// by walking a map that no socket uses.
func (o *opening) storageFeature() Feature {
	for _, f := range o.features {
		if f.Name == storageMigration {
			return f
		}
	}
	f := o.walk(o.spec)
	o.features = append(o.features, f)
	return f
}

func storageWalkFeature(spec *ebpf.CollectionSpec) Feature {
	if err := walkStorage(spec); err != nil {
		return Feature{storageMigration, false,
			"when an upgrade changes the layout, getpeername of older sockets shows the endpoint: " + err.Error()}
	}
	return Feature{storageMigration, true, "sockets keep what they remember when an upgrade changes its layout"}
}

func walkStorage(spec *ebpf.CollectionSpec) error {
	m, err := ebpf.NewMap(spec.Maps[bpf.MapConns])
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = bpf.MigrateSockets(m, m, func(old []byte) ([]byte, error) { return old, nil })
	return err
}
