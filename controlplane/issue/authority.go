package issue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"heddle.io/heddle/controlplane/model"
	"heddle.io/heddle/identity/ca"
	"heddle.io/heddle/identity/mtls"
)

// Where the authority is kept, in the namespace of the controller.
const (
	SecretName    = "heddle-controller-ca"
	ConfigMapName = "heddle-ca"
	ConfigMapKey  = "ca.pem"
)

const (
	// leafLifetime is that of the controller's certificate. It is renewed when a
	// third is left, so a controller may be cut off from nobody for that long:
	// the key of the authority is in memory.
	leafLifetime = 24 * time.Hour
	// lookEvery is how often Secret and ConfigMap are compared with what is in
	// use.
	lookEvery = 30 * time.Second
	// retryEvery is how often that is tried while it fails.
	retryEvery = 2 * time.Second
	// warnBefore is how long before its end an authority is a problem.
	warnBefore = 180 * 24 * time.Hour
	// callTimeout bounds one request to the API server.
	callTimeout = 10 * time.Second
)

// AuthorityOptions say whose certificates are issued. All are required.
type AuthorityOptions struct {
	Client    kubernetes.Interface
	Namespace string // of the controller
	Service   string // its Service
	Log       *slog.Logger
}

// Authority keeps the authority of a cluster and the certificate of this process.
// Its methods may be called from any goroutine.
type Authority struct {
	o     AuthorityOptions
	names []string
	now   func() time.Time

	mu struct {
		sync.Mutex
		authority *ca.Authority // nil until it is known
		leaf      *tls.Certificate
		problems  map[string]model.Problem // by object
	}
}

// NewAuthority returns an authority that knows nothing before Run.
func NewAuthority(o AuthorityOptions) *Authority {
	host := o.Service + "." + o.Namespace
	a := &Authority{o: o, now: time.Now, names: []string{host + ".svc", host + ".svc.cluster.local", host, o.Service}}
	a.mu.problems = make(map[string]model.Problem)
	return a
}

// Run keeps Secret and ConfigMap until ctx ends.
func (a *Authority) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := lookEvery
		if !a.look(ctx) && ctx.Err() == nil {
			next = retryEvery
		}
		timer.Reset(next)
	}
}

// look compares what is kept with what is in use. It is true when both are in
// order.
func (a *Authority) look(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	secret, configMap := "Secret "+a.o.Namespace+"/"+SecretName, "ConfigMap "+a.o.Namespace+"/"+ConfigMapName
	err := a.keep(ctx)
	a.report(secret, "AuthorityUnusable", err)
	a.warn(secret)
	authority := a.current()
	if authority == nil {
		return false
	}
	publishErr := a.publish(ctx, authority)
	a.report(configMap, "AuthorityNotPublished", publishErr)
	return err == nil && publishErr == nil
}

// keep takes the authority from the Secret. Who finds none makes one; of several
// that do, the API server lets one win, and the others take what that one wrote.
// Contents that cannot be used are never overwritten: nodes may trust them still.
func (a *Authority) keep(ctx context.Context) error {
	secrets := a.o.Client.CoreV1().Secrets(a.o.Namespace)
	secret, err := secrets.Get(ctx, SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if secret, err = a.fresh(); err != nil {
			return err
		}
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
		if err == nil {
			a.o.Log.Info("authority of the controller is kept", "secret", a.o.Namespace+"/"+SecretName)
		} else if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating it: %w; the controller needs the right to create Secrets in namespace %s", err, a.o.Namespace)
		}
		// Also after a success: what counts is what the API server has.
		secret, err = secrets.Get(ctx, SecretName, metav1.GetOptions{})
	}
	if err != nil {
		return fmt.Errorf("reading it: %w; the controller needs the right to get this Secret", err)
	}
	authority, err := ca.Parse(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], a.now())
	if err != nil {
		return fmt.Errorf("its %s and %s cannot be used: %w; correct them, or delete the Secret to have a new authority made", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
	}
	a.use(authority)
	return nil
}

// fresh returns a Secret with the authority in use, so that one that was deleted
// comes back as it was, or with a new one.
func (a *Authority) fresh() (*corev1.Secret, error) {
	authority := a.current()
	if authority == nil {
		var err error
		if authority, err = ca.New("heddle "+a.o.Namespace, a.now()); err != nil {
			return nil, err
		}
	}
	key, err := authority.KeyPEM()
	if err != nil {
		return nil, err
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: a.o.Namespace, Labels: labels()},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: authority.CertificatePEM(), corev1.TLSPrivateKeyKey: key},
	}, nil
}

func labels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": "heddle", "app.kubernetes.io/component": "controller"}
}

// publish puts the certificate where nodes mount it, and repairs it there.
func (a *Authority) publish(ctx context.Context, authority *ca.Authority) error {
	want := string(authority.CertificatePEM())
	maps := a.o.Client.CoreV1().ConfigMaps(a.o.Namespace)
	found, err := maps.Get(ctx, ConfigMapName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: ConfigMapName, Namespace: a.o.Namespace, Labels: labels()},
			Data:       map[string]string{ConfigMapKey: want},
		}, metav1.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) { // the other replica's is looked at next time
			return nil
		}
		return fmt.Errorf("creating it: %w; nodes have nothing to check the controller against", err)
	}
	if err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	if found.Data[ConfigMapKey] == want {
		return nil
	}
	found = found.DeepCopy()
	if found.Data == nil {
		found.Data = make(map[string]string)
	}
	found.Data[ConfigMapKey] = want
	if _, err = maps.Update(ctx, found, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("repairing its key %s: %w", ConfigMapKey, err)
	}
	a.o.Log.Warn("certificate of the authority was not what is in use; repaired", "configmap", a.o.Namespace+"/"+ConfigMapName)
	return nil
}

func (a *Authority) current() *ca.Authority {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.authority
}

func (a *Authority) use(authority *ca.Authority) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !authority.Same(a.mu.authority) {
		a.mu.authority, a.mu.leaf = authority, nil
	}
}

// report keeps what is wrong with an object, and logs when that begins and ends.
func (a *Authority) report(object, reason string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, known := a.mu.problems[object]
	if err == nil {
		if known {
			a.o.Log.Info("problem is gone", "object", object)
		}
		delete(a.mu.problems, object)
		return
	}
	detail := err.Error()
	if a.mu.authority != nil {
		detail += "; the authority that was read before stays in use"
	}
	if before.Detail != detail {
		a.o.Log.Warn("problem", "object", object, "reason", reason, "detail", detail)
	}
	a.mu.problems[object] = model.Problem{Object: object, Reason: reason, Detail: detail}
}

// warn tells early that an authority ends.
func (a *Authority) warn(object string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.authority == nil || a.mu.authority.Expires().Sub(a.now()) > warnBefore || a.mu.problems[object] != (model.Problem{}) {
		return
	}
	a.mu.problems[object] = model.Problem{Object: object, Reason: "AuthorityExpires", Detail: fmt.Sprintf(
		"the authority of the controller is valid until %s: delete the Secret and restart the controller to have a new one made; nodes keep what they have until they know it",
		a.mu.authority.Expires().Format(time.RFC3339))}
}

// Ready tells whether there is a certificate to show.
func (a *Authority) Ready() bool { return a.current() != nil }

// Problems returns what the operator should know.
func (a *Authority) Problems() []model.Problem {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []model.Problem
	for _, p := range a.mu.problems {
		out = append(out, p)
	}
	return out
}

// TLS returns the configuration of the server. Each handshake shows the newest
// certificate.
func (a *Authority) TLS() *tls.Config { return mtls.ServerOnly(a.leaf) }

var errNoAuthority = errors.New("the controller has no certificate yet: its authority was not read")

// leaf returns the certificate to show, a new one when the old has a third of its
// life left.
func (a *Authority) leaf() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.authority == nil {
		return nil, errNoAuthority
	}
	now := a.now()
	if a.mu.leaf != nil && a.mu.leaf.Leaf.NotAfter.Sub(now) > leafLifetime/3 {
		return a.mu.leaf, nil
	}
	leaf, err := a.mu.authority.Serve(a.names, now, leafLifetime)
	if err != nil {
		return nil, err
	}
	a.mu.leaf = leaf
	return leaf, nil
}
