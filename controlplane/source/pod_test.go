package source

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The node sees a static pod by the uid that kubelet gave it, not by its mirror's.
func TestUIDOfAStaticPod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-node1", UID: "0a1b2c3d-1111-2222-3333-0123456789ab"}}
	for annotation, want := range map[string]string{"": string(pod.UID), "0123456789abcdef0123456789abcdef": "0123456789abcdef0123456789abcdef"} {
		pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: annotation}
		o, err := convertPod(pod)
		if err != nil {
			t.Fatal(err)
		}
		if o.Pod.UID != want {
			t.Errorf("with the annotation %q it is %s, want %s", annotation, o.Pod.UID, want)
		}
	}
}
