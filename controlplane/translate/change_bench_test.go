package translate_test

import (
	"fmt"
	"maps"
	"testing"

	"heddle.io/heddle/controlplane/model"
	"heddle.io/heddle/controlplane/translate"
)

// BenchmarkChange is one endpoint of one Service that changes, as a source tells.
func BenchmarkChange(b *testing.B) {
	for _, services := range []int{500, 10_000} {
		s := cluster(services)
		var translator translate.Translator
		translator.Build(s)
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				next := *s
				next.Slices = maps.Clone(s.Slices)
				key := model.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", n%services)}
				slice := *next.Slices[key]
				slice.Endpoints = append(slice.Endpoints[1:len(slice.Endpoints):len(slice.Endpoints)], slice.Endpoints[0])
				next.Slices[key] = &slice
				s = &next
				translator.Build(s)
			}
		})
	}
}
