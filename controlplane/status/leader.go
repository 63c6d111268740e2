package status

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// LeaseName is the Lease whose holder writes.
const LeaseName = "heddle-controller"

// How long a leader that is gone is waited for, and how often it says that it is
// not.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// elect leads whenever nobody else does, until ctx ends.
func (w *Writer) elect(ctx context.Context) {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: LeaseName, Namespace: w.o.Namespace},
			Client:     w.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: w.o.Pod},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				w.led(true)
				defer w.led(false)
				w.lead(ctx)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		w.trouble("Lease "+w.o.Namespace+"/"+LeaseName, "NoElection", err)
		return
	}
	for ctx.Err() == nil {
		elector.Run(ctx)
	}
}

func (w *Writer) led(leading bool) {
	w.mu.Lock()
	w.mu.leading = leading
	w.mu.Unlock()
	if leading {
		w.o.Log.Info("this controller writes the status of objects")
	} else {
		w.o.Log.Info("another controller writes the status of objects")
	}
}

// followPeers reads the reports of the other controllers until the function that
// it returns is called.
func (w *Writer) followPeers(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactoryWithOptions(w.client, 0, informers.WithNamespace(w.o.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = reportLabel }))
	take := func(o any) {
		if m, ok := o.(*corev1.ConfigMap); ok {
			w.trouble("ConfigMap "+m.Namespace+"/"+m.Name, "ReportUnusable", w.peers.put(m))
		}
	}
	informer := factory.Core().V1().ConfigMaps().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    take,
		UpdateFunc: func(_, o any) { take(o) },
		DeleteFunc: func(o any) {
			if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if m, ok := o.(*corev1.ConfigMap); ok {
				w.peers.drop(m.Name)
				w.trouble("ConfigMap "+m.Namespace+"/"+m.Name, "ReportUnusable", nil) // it went with the report
			}
		},
	})
	w.trouble("reports of controllers", "ReportsUnknown", err)
	factory.Start(ctx.Done())
	return func() { cancel(); factory.Shutdown() }
}
