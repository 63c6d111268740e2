package plane

import (
	"slices"
	"sync"

	"heddle.io/heddle/controlplane/condition"
	"heddle.io/heddle/controlplane/serve"
	"heddle.io/heddle/controlplane/translate"
)

// board is what there is to tell users about their objects.
type board struct {
	p *Plane

	mu struct {
		sync.Mutex
		of       *translate.Result // that carriers are of
		carriers *condition.Carriers
	}
}

// look returns the present state. It is false before the first is served.
func (b *board) look() (condition.Input, bool) {
	p := b.p
	p.mu.Lock()
	snapshot, result := p.mu.snapshot, p.mu.result
	in := condition.Input{Snapshot: snapshot}
	if result != nil {
		in.Problems = slices.Concat(p.mu.source.Problems, result.All)
	}
	p.mu.Unlock()
	if result == nil {
		return in, false
	}
	b.mu.Lock()
	if b.mu.of != result {
		b.mu.of, b.mu.carriers = result, condition.Find(snapshot, result)
	}
	in.Carriers = b.mu.carriers
	b.mu.Unlock()

	var refs []serve.Ref
	for _, r := range in.Carriers.Refs() {
		refs = append(refs, serve.Ref(r))
	}
	in.Progress = make(map[condition.Ref]condition.Progress, len(refs))
	for _, progress := range p.server.Progress(refs) {
		in.Progress[condition.Ref(progress.Ref)] = condition.Progress{Version: progress.Version, Needs: progress.Needs, Has: progress.Has}
	}
	return in, true
}
