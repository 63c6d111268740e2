package main

import (
	"slices"
	"time"

	"heddle.io/heddle/e2e/bench/load"
)

// Numbers of connections that requests are measured with.
const (
	one            = 1
	maxConnections = 16
)

// A kind of traffic; each variant has a cell of each in every round.
type kind struct {
	name  string
	order load.Order
}

var kinds = []kind{
	{"requests, 1 connection", load.Order{Do: load.Request, Connections: one}},
	{"requests, 16 connections", load.Order{Do: load.Request, Connections: maxConnections}},
	{"stream", load.Order{Do: load.Stream, Connections: one}},
	{"connect", load.Order{Do: load.Connect, Connections: one}},
}

// A Cell is what one kind of traffic cost one variant in one round.
type Cell struct {
	Kind string           `json:"kind"`
	Load load.Result      `json:"load"`
	CPU  map[string]int64 `json:"cpuNanoseconds"`  // by who used it
	Busy int64            `json:"busyNanoseconds"` // of the cores, whoever it was; in steps of a clock tick
}

func (c *Cell) cpu() (total time.Duration) {
	for _, ns := range c.CPU {
		total += time.Duration(ns)
	}
	return total
}

// A Visit is one variant in one round.
type Visit struct {
	Variant string  `json:"variant"` // key
	Cells   []*Cell `json:"cells"`
	Made    int     `json:"connections"` // by the client
	// Established is how many of them the agent counted for the variant's
	// service; only in the mesh.
	Established uint64 `json:"establishedInMesh,omitempty"`
	// Served is how many connections the variant's mechanism took over on the
	// node.
	Served uint64 `json:"servedByMechanism,omitempty"`
}

func (v *Visit) cell(name string) *Cell {
	i := slices.IndexFunc(v.Cells, func(c *Cell) bool { return c.Kind == name })
	if i < 0 {
		return nil
	}
	return v.Cells[i]
}

// A metric is a number that one cell has.
type metric struct {
	name  string
	unit  string
	kind  string
	digit int
	cost  bool // CPU: among the first tables, with ratios
	of    func(*Cell) float64
}

var metrics = []metric{
	{cpuRequest1, "µs", kinds[0].name, 1, true, perCount},
	{cpuRequest16, "µs", kinds[1].name, 1, true, perCount},
	{cpuGB, "s", kinds[2].name, 3, true, func(c *Cell) float64 { return float64(c.cpu()) / float64(c.Load.Bytes) }},
	{cpuConnect, "µs", kinds[3].name, 1, true, perCount},

	{"requests/s, 1 connection", "", kinds[0].name, 0, false, rate},
	{"p50, 1 connection", "µs", kinds[0].name, 1, false, p50},
	{"p99, 1 connection", "µs", kinds[0].name, 1, false, p99},
	{"requests/s, 16 connections", "", kinds[1].name, 0, false, rate},
	{"p50, 16 connections", "µs", kinds[1].name, 0, false, p50},
	{"p99, 16 connections", "µs", kinds[1].name, 0, false, p99},
	{"connections/s", "", kinds[3].name, 0, false, rate},
}

const (
	cpuRequest1  = "CPU per request, 1 connection"
	cpuRequest16 = "CPU per request, 16 connections"
	cpuGB        = "CPU per GB"
	cpuConnect   = "CPU per connection"
)

func perCount(c *Cell) float64 { return float64(c.cpu()) / float64(c.Load.Count) / 1e3 }
func rate(c *Cell) float64     { return float64(c.Load.Count) / c.Load.Seconds }
func p50(c *Cell) float64      { return c.Load.P50 }
func p99(c *Cell) float64      { return c.Load.P99 }
