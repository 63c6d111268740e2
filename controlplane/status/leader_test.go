package status

import (
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"heddle.io/heddle/controlplane/model"
)

// What is wrong with a report is over when the report is gone.
func TestUnusableReportGoes(t *testing.T) {
	m := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: reportPrefix + "other", Namespace: "heddle-system", Labels: map[string]string{reportLabel: "true"}},
		BinaryData: map[string][]byte{reportKey: []byte("no report")},
	}
	w := &Writer{o: Options{Namespace: m.Namespace, Log: slog.New(slog.DiscardHandler)}, client: fake.NewClientset(m)}
	w.mu.problems = make(map[string]model.Problem)
	stop := w.followPeers(t.Context())
	defer stop()
	await(t, "a problem", func() bool { return len(w.Problems()) == 1 })
	if err := w.client.CoreV1().ConfigMaps(m.Namespace).Delete(t.Context(), m.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "no problem", func() bool { return len(w.Problems()) == 0 })
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}
