package status

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heddle.io/heddle/controlplane/condition"
)

// A controller keeps what its nodes have acknowledged in a ConfigMap of this name
// and its pod's.
const (
	reportPrefix = "heddle-acks-"
	reportLabel  = "heddle.io/acks"
	reportKey    = "report"
)

const (
	// reportEvery is how often it is looked whether the report changed,
	// reportAgain how often it is written when it did not.
	reportEvery = time.Second
	reportAgain = 30 * time.Second
	// reportOld is when the controller of a report that does not change is taken
	// for gone.
	reportOld = 3 * reportAgain
	// maxReport bounds a report, unpacked.
	maxReport = 64 << 20
	// maxPacked is what a ConfigMap holds, with room for the rest of it.
	maxPacked = 900 << 10
)

// report keeps this controller's ConfigMap until ctx ends.
func (w *Writer) report(ctx context.Context) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	var changes uint64
	var last []byte
	var written time.Time
	for {
		select {
		case <-ctx.Done():
			w.withdraw()
			return
		case <-ticker.C:
		}
		now := w.o.Changes()
		due := time.Since(written) > reportAgain
		if now == changes && !due {
			continue
		}
		in, ok := w.o.Look()
		if !ok {
			continue
		}
		packed, err := pack(condition.Tell(in.Progress))
		if err == nil && (due || !bytes.Equal(packed, last)) {
			err = w.writeReport(ctx, packed)
		}
		w.trouble("ConfigMap "+w.o.Namespace+"/"+reportPrefix+w.o.Pod, "AcksNotPublished", err)
		if err != nil {
			continue
		}
		if due || !bytes.Equal(packed, last) {
			written = time.Now()
		}
		changes, last = now, packed
	}
}

func (w *Writer) writeReport(ctx context.Context, packed []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	maps := w.client.CoreV1().ConfigMaps(w.o.Namespace)
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: reportPrefix + w.o.Pod, Namespace: w.o.Namespace, Labels: map[string]string{reportLabel: "true"},
			Annotations: map[string]string{"heddle.io/written": time.Now().UTC().Format(time.RFC3339)}},
		BinaryData: map[string][]byte{reportKey: packed},
	}
	_, err := maps.Update(ctx, m, metav1.UpdateOptions{}) // nobody else writes it
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(ctx, m, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("telling the other controllers what nodes have acknowledged: %w", err)
	}
	return nil
}

// withdraw takes the report away: the nodes go to other controllers.
func (w *Writer) withdraw() {
	// Not that of Run, which is over.
	ctx, cancel := context.WithTimeout(context.Background(), lastTimeout)
	defer cancel()
	err := w.client.CoreV1().ConfigMaps(w.o.Namespace).Delete(ctx, reportPrefix+w.o.Pod, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.o.Log.Warn("report of acknowledgements stays behind; the writer drops it when it is old", "error", err)
	}
}

// peers are the reports of the other controllers, as the writer knows them.
type peers struct {
	mu struct {
		sync.Mutex
		reports map[string]peer // by name of the ConfigMap
		changes uint64
	}
}

type peer struct {
	report condition.Report
	seen   time.Time
}

func (p *peers) put(m *corev1.ConfigMap) error {
	report, err := unpack(m.BinaryData[reportKey])
	if err != nil {
		return fmt.Errorf("reading the report %s: %w", m.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.reports == nil {
		p.mu.reports = make(map[string]peer)
	}
	p.mu.reports[m.Name] = peer{report, time.Now()}
	p.mu.changes++
	return nil
}

func (p *peers) drop(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.reports, name)
	p.mu.changes++
}

func (p *peers) changes() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.changes
}

// merge adds what the others report, and returns those that are too old.
func (p *peers) merge(progress map[condition.Ref]condition.Progress, own string) (old []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, r := range p.mu.reports {
		switch {
		case name == own:
		case time.Since(r.seen) > reportOld:
			old = append(old, name)
		default:
			condition.Merge(progress, r.report)
		}
	}
	return old
}

func pack(r condition.Report) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := json.NewEncoder(z).Encode(r); err != nil {
		return nil, fmt.Errorf("packing a report: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("packing a report: %w", err)
	}
	if out.Len() > maxPacked {
		return nil, fmt.Errorf("the report of acknowledgements has %d bytes and %d fit; what is programmed on this controller's nodes is not counted: use fewer routes", out.Len(), maxPacked)
	}
	return out.Bytes(), nil
}

func unpack(packed []byte) (condition.Report, error) {
	var r condition.Report
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return r, err
	}
	err = json.NewDecoder(io.LimitReader(z, maxReport)).Decode(&r)
	return r, err
}
