package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"heddle.io/heddle/controlplane/condition"
	"heddle.io/heddle/controlplane/model"
)

const (
	// lookEvery is how often it is looked whether something has to be written:
	// what changes within it is written once.
	lookEvery = 500 * time.Millisecond
	// settling is how long a controller leads before it writes: nodes that come to
	// it from the leader before are told of by then.
	settling = 3 * time.Second
	// restEvery is how often everything is looked at though nothing changed.
	restEvery = 30 * time.Second
	// lasting is how long something has to be no longer programmed before that is
	// written.
	lasting = 10 * time.Second
	// writeRate bounds the writes in a second.
	writeRate, writeBurst = 50, 50
	// tries is how often a write that somebody else was faster at is tried at once.
	tries = 4

	callTimeout = 10 * time.Second
	lastTimeout = 2 * time.Second
)

// Options say what is written where. All are required.
type Options struct {
	API       *rest.Config
	Namespace string // of the controllers
	Pod       string // of this one
	Log       *slog.Logger

	// Look returns what there is to tell, with the progress that this controller
	// knows of. It is false when there is nothing yet. Changes counts what may
	// change it.
	Look    func() (condition.Input, bool)
	Changes func() uint64
}

// Writer writes the status of objects while it leads.
type Writer struct {
	o       Options
	client  kubernetes.Interface
	dynamic dynamic.Interface
	mapper  meta.ResettableRESTMapper
	limiter *rate.Limiter
	peers   peers

	mu struct {
		sync.Mutex
		leading  bool
		problems map[string]model.Problem
		writes   uint64
		failures uint64
	}
}

// New returns a writer that does nothing before Run.
func New(o Options) (*Writer, error) {
	w := &Writer{o: o, limiter: rate.NewLimiter(writeRate, writeBurst)}
	w.mu.problems = make(map[string]model.Problem)
	config := rest.CopyConfig(o.API)
	config.UserAgent = "heddle-controller"
	config.QPS, config.Burst = 2*writeRate+20, 2*writeBurst+20 // a write is a read and an update
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	if w.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("client of the API server: %w", err)
	}
	w.client = client
	w.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	return w, nil
}

// Run works until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { w.report(ctx) })
	running.Go(func() { w.elect(ctx) })
	running.Wait()
}

// Leading tells whether this controller is the one that writes.
func (w *Writer) Leading() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.leading
}

// Totals returns how many statuses were written, and how often that failed.
func (w *Writer) Totals() (writes, failures uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.writes, w.mu.failures
}

// Problems returns what the operator should know.
func (w *Writer) Problems() []model.Problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []model.Problem
	for _, p := range w.mu.problems {
		out = append(out, p)
	}
	return out
}

func (w *Writer) trouble(object, reason string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.mu.problems, object)
		return
	}
	if _, known := w.mu.problems[object]; !known {
		w.o.Log.Warn("problem", "object", object, "reason", reason, "detail", err.Error())
	}
	w.mu.problems[object] = model.Problem{Object: object, Reason: reason, Detail: err.Error()}
}

// lead writes until ctx ends, which is when somebody else does.
func (w *Writer) lead(ctx context.Context) {
	stop := w.followPeers(ctx)
	defer stop()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	b := newBook()
	begin, looked := time.Now(), time.Time{}
	var changes, peers uint64
	idle := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		nowChanges, nowPeers := w.o.Changes(), w.peers.changes()
		if idle && nowChanges == changes && nowPeers == peers && time.Since(looked) < restEvery {
			continue
		}
		in, ok := w.o.Look()
		if !ok || time.Since(begin) < settling {
			continue
		}
		changes, peers, looked = nowChanges, nowPeers, time.Now()
		idle = w.turn(ctx, b, in)
	}
}

// turn writes what is due. It is false when something is left to do.
func (w *Writer) turn(ctx context.Context, b *book, in condition.Input) (done bool) {
	for _, old := range w.peers.merge(in.Progress, reportPrefix+w.o.Pod) {
		w.dropReport(ctx, old)
	}
	done = true
	failed := error(nil)
	for _, o := range b.due(condition.Build(in), time.Now()) {
		if w.limiter.Wait(ctx) != nil {
			return false
		}
		switch err := w.write(ctx, o); {
		case err == nil:
			b.written(o, time.Now())
		case errors.Is(err, errBehind):
			done = false
		default:
			done, failed = false, err
		}
	}
	w.trouble("status of objects", "StatusNotWritten", failed)
	return done && len(b.less) == 0
}

// dropReport takes away the report of a controller that is gone.
func (w *Writer) dropReport(ctx context.Context, name string) {
	err := w.client.CoreV1().ConfigMaps(w.o.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		w.peers.drop(name)
	}
}

// errBehind: the object is newer than what is known of it; the news are on the way.
var errBehind = errors.New("the object is newer")

// write brings the status of one object up to date.
func (w *Writer) write(ctx context.Context, o *condition.Object) error {
	err := w.tryWrite(ctx, o)
	for n := 1; n < tries && apierrors.IsConflict(err); n++ {
		err = w.tryWrite(ctx, o)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil || errors.Is(err, errBehind):
		return err
	case ctx.Err() == nil:
		w.mu.failures++
	}
	return fmt.Errorf("status of %s: %w; it is tried again", o.Name(), err)
}

func (w *Writer) tryWrite(ctx context.Context, o *condition.Object) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resource, err := w.resource(o)
	if err != nil {
		return err
	}
	live, err := resource.Get(ctx, o.Key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // it is gone, and its status with it
	}
	if err != nil {
		return err
	}
	changed, behind, err := edit(live, o)
	if err != nil {
		return err
	}
	if behind {
		return errBehind
	}
	if !changed {
		return nil
	}
	if _, err := resource.UpdateStatus(ctx, live, metav1.UpdateOptions{}); err != nil {
		return err
	}
	w.mu.Lock()
	w.mu.writes++
	w.mu.Unlock()
	return nil
}

// resource is where an object is, in the version that the API server prefers.
func (w *Writer) resource(o *condition.Object) (dynamic.ResourceInterface, error) {
	group := "gateway.networking.k8s.io"
	switch o.Kind {
	case "TrafficPolicy", "ExternalService", "MeshConfig":
		group = "policy.heddle.io"
	}
	mapping, err := w.mapper.RESTMapping(schema.GroupKind{Group: group, Kind: o.Kind})
	if err != nil {
		if meta.IsNoMatchError(err) {
			w.mapper.Reset() // its definition may have come meanwhile
		}
		return nil, err
	}
	if o.Key.Namespace == "" {
		return w.dynamic.Resource(mapping.Resource), nil
	}
	return w.dynamic.Resource(mapping.Resource).Namespace(o.Key.Namespace), nil
}
