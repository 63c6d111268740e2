package check

import (
	"fmt"
	"slices"
	"strings"

	"heddle.io/heddle/install/manifests"
	"heddle.io/heddle/install/rollout"
)

// After judges how Heddle is.
func After(f *Facts) []Line {
	if f.Installed.Controller == "" && f.Installed.Agent == "" {
		return nil
	}
	lines := []Line{
		workload("controller", f.Controller, "kubectl -n "+f.System+" describe deployment "+manifests.Controller),
		leader(f), versions(f),
		workload("agents", f.Agent, "kubectl -n "+f.System+" describe daemonset "+manifests.Agent),
		inSync(f),
	}
	return append(lines, problems(f)...)
}

func workload(name string, w *rollout.Workload, do string) Line {
	switch {
	case w == nil:
		return Line{name, Fail, "not there", "heddlectl install"}
	case w.Wanted == 0:
		return Line{name, Fail, "none are wanted", "see its node selector, or its number of replicas: " + do}
	case w.Done():
		return Line{name, OK, fmt.Sprintf("%d/%d ready", w.Ready, w.Wanted), ""}
	case w.Ready > 0 && w.Ready >= w.Wanted:
		return Line{name, Warn, "an update is under way: " + w.String(), "wait, or see why it does not go on: " + do}
	}
	return Line{name, Fail, w.String(), do}
}

func leader(f *Facts) Line {
	const name = "leader"
	if f.Leader == "" {
		return Line{name, Fail, "no controller leads: nobody writes status", "see the log: kubectl -n " + f.System + " logs deployment/" + manifests.Controller}
	}
	return Line{name, OK, f.Leader, ""}
}

func versions(f *Facts) Line {
	const name = "versions"
	all := []string{f.Installed.Controller, f.Installed.Agent, f.Version}
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), func(v string) bool { return v == "" })
	if f.Installed.Cleaning {
		return Line{name, Fail, "an uninstallation was begun and not finished", "finish it (heddlectl uninstall), or take it back (heddlectl install)"}
	}
	if _, err := rollout.Neighbours(f.Installed.Controller, f.Installed.Agent); err != nil {
		return Line{name, Fail, err.Error(), "heddlectl upgrade"}
	}
	if len(all) > 1 {
		return Line{name, Warn, fmt.Sprintf("controller %s, agents %s, heddlectl %s", f.Installed.Controller, f.Installed.Agent, f.Version), "heddlectl upgrade brings the cluster to heddlectl's version"}
	}
	return Line{name, OK, strings.Join(all, ", "), ""}
}

// inSync is whether every node is under the configuration of the moment.
func inSync(f *Facts) Line {
	const name = "nodes in sync"
	if f.AgentsErr != nil {
		return Line{name, Fail, "the agents cannot be asked: " + f.AgentsErr.Error(), "you need the right to create pods/exec in " + f.System}
	}
	var bad []string
	for _, a := range f.Agents {
		switch {
		case a.Err != nil:
			bad = append(bad, a.Node+": "+a.Err.Error())
		case a.Status.Feed.LastNack != nil && a.Status.Feed.LastNack.Time.After(a.Status.Feed.Since):
			bad = append(bad, a.Node+": refused "+a.Status.Feed.LastNack.Resource+": "+a.Status.Feed.LastNack.Error)
		case !a.Status.Feed.Connected:
			bad = append(bad, a.Node+": no controller answers: "+a.Status.Feed.Error)
		case !a.Status.Feed.Synced:
			bad = append(bad, a.Node+": waits for its first configuration")
		case a.Status.Plan.Error != "":
			bad = append(bad, a.Node+": "+a.Status.Plan.Error)
		}
	}
	if len(bad) > 0 {
		return Line{name, Fail, fmt.Sprintf("%d of %d are not: %s", len(bad), len(f.Agents), list(bad)), "see the agent's log: kubectl -n " + f.System + " logs daemonset/" + manifests.Agent}
	}
	return Line{name, OK, fmt.Sprintf("%d/%d", len(f.Agents), len(f.Agents)), ""}
}

// problems are what controllers and agents say themselves, each once.
func problems(f *Facts) []Line {
	var lines []Line
	where := map[string][]string{}
	add := func(who, object, reason, detail string) {
		key := object + "\x00" + reason + "\x00" + detail
		if where[key] == nil {
			lines = append(lines, Line{Check: "problem", State: Warn, Detail: key})
		}
		where[key] = append(where[key], who)
	}
	for _, c := range f.Controllers {
		if c.Err != nil {
			add(c.Pod, "controller", "NotReachable", c.Err.Error())
			continue
		}
		for _, p := range c.Status.Problems {
			add("controller", p.Object, p.Reason, p.Detail)
		}
	}
	for _, a := range f.Agents {
		if a.Err == nil {
			for _, p := range a.Status.Problems {
				add(a.Node, p.Object, p.Reason, p.Detail)
			}
		}
	}
	for i, l := range lines {
		part := strings.SplitN(l.Detail, "\x00", 3)
		who := where[l.Detail]
		slices.Sort(who)
		lines[i].Detail = fmt.Sprintf("%s: %s (%s): %s", list(slices.Compact(who)), part[0], part[1], part[2])
		lines[i].Do = "heddlectl status says since when"
	}
	const most = 20
	if len(lines) > most {
		more := len(lines) - most
		lines = append(lines[:most], Line{"problem", Warn, fmt.Sprintf("%d more", more), "heddlectl status lists all"})
	}
	return lines
}
