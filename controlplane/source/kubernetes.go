package source

import (
	"context"
	stderrors "errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"heddle.io/heddle/controlplane/model"
)

// Kubernetes keeps the model of the objects of an API server. Create it with
// NewKubernetes and start it once with Run.
//
// Before everything was read once there is no Update with a snapshot: half of a
// cluster would look like a cluster of which half is gone.
type Kubernetes struct {
	host      string
	core      *coreclient.CoreV1Client
	discovery *discoveryclient.DiscoveryV1Client
	metadata  metadata.Interface
	dynamic   dynamic.Interface
	log       *slog.Logger

	inbox    *inbox
	ledger   *ledger
	gather   gather
	noticed  time.Time // the oldest change that was not handled; zero: none
	snapshot *model.Snapshot
	outbox   outbox
}

// requestsPerSecond bounds what is asked of the API server. It is reached at the
// start only: afterwards there are watches, and reading of what they say.
const requestsPerSecond = 50

// NewKubernetes returns a source that has not asked the API server yet. The
// configuration is not changed.
func NewKubernetes(config *rest.Config, log *slog.Logger) (*Kubernetes, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &Kubernetes{
		host: config.Host, log: log,
		inbox: newInbox(), ledger: newLedger(), outbox: newOutbox(),
		gather: gather{quiet: streamQuiet, most: streamMost},
	}
	config = rest.CopyConfig(config)
	config.UserAgent = "heddle-controller"
	if config.QPS == 0 { // the default would make the first reading wait
		config.QPS, config.Burst = requestsPerSecond, 2*requestsPerSecond
	}
	binary := rest.CopyConfig(config)
	binary.ContentType = "application/vnd.kubernetes.protobuf"
	binary.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	var err error
	if k.core, err = coreclient.NewForConfig(binary); err != nil {
		return nil, fmt.Errorf("configuring the client of the API server: %w", err)
	}
	if k.discovery, err = discoveryclient.NewForConfig(binary); err != nil {
		return nil, fmt.Errorf("configuring the client of the API server: %w", err)
	}
	if k.metadata, err = metadata.NewForConfig(binary); err != nil {
		return nil, fmt.Errorf("configuring the client of the API server: %w", err)
	}
	if k.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("configuring the client of the API server: %w", err)
	}
	return k, nil
}

// Updates delivers the newest update. Who reads late misses the ones between.
func (k *Kubernetes) Updates() <-chan Update { return k.outbox.updates }

// Run follows the API server until ctx ends.
func (k *Kubernetes) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, start := range k.required() {
		running.Go(func() { start(ctx) })
	}
	running.Go(func() { k.followDefinitions(ctx) })

	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.inbox.wake:
			now := time.Now()
			k.gather.note(now)
			if k.noticed.IsZero() {
				k.noticed = now
			}
		case <-timer.C:
		}
		due, waiting := k.gather.due()
		if waiting && !time.Now().Before(due) {
			k.turn()
			due, waiting = k.gather.due()
		}
		if waiting {
			timer.Reset(time.Until(due))
		}
	}
}

// requiredKinds are those that every API server has.
var requiredKinds = []string{namespaceKind, nodeKind, podKind, serviceKind, sliceKind}

// required returns what follows each of them. Of Namespaces and Nodes only the
// metadata is asked for: their labels are all that matters.
func (k *Kubernetes) required() []func(context.Context) {
	return []func(context.Context){
		func(ctx context.Context) {
			namespaces := k.metadata.Resource(corev1.SchemeGroupVersion.WithResource("namespaces"))
			track(ctx, k.inbox, namespaceKind, k.feed(namespaceKind, fromMetadata(namespaceOf, convertNamespace)), namespaces, "")
		},
		func(ctx context.Context) {
			nodes := k.metadata.Resource(corev1.SchemeGroupVersion.WithResource("nodes"))
			track(ctx, k.inbox, nodeKind, k.feed(nodeKind, fromMetadata(nodeOf, convertNode)), nodes, "")
		},
		func(ctx context.Context) {
			track(ctx, k.inbox, podKind, k.feed(podKind, fromTyped(slimPod)), k.core.Pods(corev1.NamespaceAll), notFinished)
		},
		func(ctx context.Context) {
			track(ctx, k.inbox, serviceKind, k.feed(serviceKind, fromTyped(convertService)), k.core.Services(corev1.NamespaceAll), "")
		},
		func(ctx context.Context) {
			track(ctx, k.inbox, sliceKind, k.feed(sliceKind, fromTyped(convertSlice)), k.discovery.EndpointSlices(corev1.NamespaceAll), "")
		},
	}
}

func (k *Kubernetes) feed(kind string, convert func(runtime.Object) (*object, error)) *feed {
	return &feed{kind: kind, inbox: k.inbox, convert: convert, known: make(map[id]bool)}
}

// turn puts in force what was gathered, and says so.
func (k *Kubernetes) turn() {
	defer func() { k.noticed = time.Time{}; k.gather.handled(time.Now()) }()
	changes, contacts := k.inbox.take()
	k.ledger.apply(changes)
	if k.snapshot != nil || synced(contacts) {
		k.snapshot = k.ledger.snapshot(k.snapshot)
	}
	problems, unavailable := k.troubles(contacts)
	if k.snapshot == nil && unavailable == nil {
		return // not everything was read yet, and nothing is in the way
	}
	k.outbox.publish(Update{Snapshot: k.snapshot, Err: unavailable, Noticed: k.noticed}, append(problems, k.ledger.problems()...))
}

// cause leaves out the address and the parameters of a request, which differ each
// time: the same failure is the same problem.
func cause(err error) error {
	var failed *url.Error
	if stderrors.As(err, &failed) {
		err = failed.Err
	}
	var refused *net.OpError
	if stderrors.As(err, &refused) {
		err = refused
	}
	return err
}

// synced reports whether everything that can be read was read once.
func synced(contacts map[string]contact) bool {
	for _, kind := range requiredKinds {
		if !contacts[kind].synced {
			return false
		}
	}
	for _, o := range optionals {
		if c := contacts[o.kind]; !c.synced && !absent(contacts, o.kind) && !errors.IsForbidden(c.err) {
			return false
		}
	}
	return true
}

// absent reports whether the cluster has no such kind. Where definitions may not
// be read, that is what the API server says when it is asked for the objects.
func absent(contacts map[string]contact, kind string) bool {
	c := contacts[kind]
	return c.absent || errors.IsForbidden(contacts[definitionKind].err) && errors.IsNotFound(c.err)
}

// troubles tells what cannot be read, and why the source as a whole is not up to
// date; nil: it is.
func (k *Kubernetes) troubles(contacts map[string]contact) (problems []model.Problem, unavailable error) {
	missing := make(map[string][]string) // group -> kinds
	for _, o := range optionals {
		if absent(contacts, o.kind) {
			missing[o.group] = append(missing[o.group], o.kind)
		}
	}
	for group, kinds := range missing {
		problems = append(problems, model.Problem{
			Object: "API group " + group, Reason: "KindNotInstalled",
			Detail: fmt.Sprintf("the cluster has no CustomResourceDefinition, in a version that is understood, of %s; install them if you want to use them, which is noticed at once", strings.Join(kinds, ", ")),
		})
	}
	object := "API server " + printable(k.host)
	for _, kind := range slices.Sorted(maps.Keys(contacts)) {
		err := contacts[kind].err
		switch {
		case err == nil, absent(contacts, kind):
		case errors.IsForbidden(err):
			problems = append(problems, model.Problem{
				Object: object, Reason: "SourceForbidden",
				Detail: fmt.Sprintf("%s objects cannot be read: %v; let the controller's ServiceAccount get, list and watch them", kind, err),
			})
			if slices.Contains(requiredKinds, kind) && unavailable == nil {
				unavailable = err
			}
		case unavailable == nil:
			unavailable = fmt.Errorf("reading %s objects: %w", kind, cause(err))
		}
	}
	if unavailable != nil && !errors.IsForbidden(unavailable) {
		fate := "nothing is in force"
		if k.snapshot != nil {
			fate = "the last good objects stay in force"
		}
		problems = append(problems, model.Problem{Object: object, Reason: "SourceUnavailable", Detail: unavailable.Error() + "; " + fate})
	}
	return problems, unavailable
}
