// Package translate turns the model of a cluster into the xDS resources that
// nodes need, says which nodes need which, and what is wrong with the objects.
//
// It is pure and deterministic: the same snapshot gives the same result, so a
// controller that starts again serves what it served before. controlplane/serve
// sends the result.
package translate
