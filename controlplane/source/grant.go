package source

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"heddle.io/heddle/controlplane/model"
)

// maxGrants bounds both lists of a ReferenceGrant, as Gateway API does.
const maxGrants = 16

// convertGrant reads a ReferenceGrant. What it grants to or of other kinds than
// routes and Services belongs to others and is left out.
func convertGrant(in *gatewayv1.ReferenceGrant) (*object, error) {
	var c checks
	if from, to := len(in.Spec.From), len(in.Spec.To); from > maxGrants || to > maxGrants {
		c.add("spec", "it has %d entries in from and %d in to, the limit is %d", from, to, maxGrants)
		return nil, c.err()
	}
	out := &model.Grant{Key: key(in.Namespace, in.Name)}
	all := false
	for i, to := range in.Spec.To {
		if to.Kind != serviceKind || to.Group != "" && to.Group != "core" {
			continue
		}
		if to.Name == nil || *to.Name == "" {
			all = true
			continue
		}
		c.name(fmt.Sprintf("spec.to[%d].name", i), string(*to.Name), validation.IsDNS1123Subdomain)
		out.Services = append(out.Services, string(*to.Name))
	}
	granted := all || len(out.Services) > 0
	if all {
		out.Services = nil
	}
	for i, from := range in.Spec.From {
		if from.Group != gatewayv1.GroupName || !granted {
			continue
		}
		c.name(fmt.Sprintf("spec.from[%d].namespace", i), string(from.Namespace), validation.IsDNS1123Label)
		out.From = append(out.From, model.GrantFrom{Kind: string(from.Kind), Namespace: string(from.Namespace)})
	}
	return c.result(&object{Grant: out})
}
