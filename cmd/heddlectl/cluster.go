package main

import "heddle.io/heddle/install/kube"

// cluster is the cluster that the command line means. Nothing is sent yet.
func (a *app) cluster() (*kube.Cluster, error) {
	config, err := kube.Config(a.kube)
	if err != nil {
		return nil, usage{err}
	}
	return kube.Open(config, a.system)
}
