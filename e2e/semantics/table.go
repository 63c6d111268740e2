package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"

	"heddle.io/heddle/dataplane/semantics"
)

// A table is the result of a run.
type table struct {
	Date      time.Time  `json:"date"`
	Kernel    string     `json:"kernel"`
	Command   string     `json:"command"`
	Rows      int        `json:"rows"`
	Conntrack bool       `json:"conntrack"`
	Sections  []*section `json:"sections"`
}

// A section is one setting.
type section struct {
	Setting string              `json:"setting"`
	Plain   []semantics.Outcome `json:"plain"`
	Modes   []*column           `json:"modes"`
}

// A column is one mode in a setting.
type column struct {
	Mode        string                 `json:"mode"`
	Mechanism   string                 `json:"mechanism,omitempty"` // of the mode: "on", or "off: " and why
	Connections uint64                 `json:"connections"`         // that went by Heddle
	Outcomes    []semantics.Outcome    `json:"outcomes"`
	Differences []semantics.Difference `json:"differences"`
}

// differing counts the rows of a mode that differ, in all settings.
func (t *table) differing(mode string) (n int) {
	for _, s := range t.Sections {
		for _, c := range s.Modes {
			if c.Mode == mode {
				n += len(c.Differences)
			}
		}
	}
	return n
}

func (t *table) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(t)
}

// cell fits a text into a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}

// text is a mode's cell of a row: "=" where it equals plain TCP.
func (c *column) text(row string) string {
	for _, d := range c.Differences {
		if d.Row == row {
			return cell(d.Other)
		}
	}
	return "="
}

var markdown = template.Must(template.New("").Funcs(template.FuncMap{
	"cell": cell,
	"text": func(c *column, row string) string { return c.text(row) },
}).Parse(`# What applications see

| | |
|---|---|
| date | {{.Date.Format "2006-01-02 15:04"}} UTC |
| kernel | {{.Kernel}} |
| command | ` + "`{{.Command}}`" + ` |
| node | {{if .Conntrack}}connection tracking and rules like kube-proxy's{{else}}no packet filter{{end}} |
| rows | {{.Rows}} |

Rows that differ from plain TCP, in every of up to four runs:

| setting | mode | its mechanism | differing rows | connections by Heddle |
|---|---|---|---|---|
{{range $s := .Sections}}{{range .Modes}}| {{$s.Setting}} | {{.Mode}} | {{cell .Mechanism}} | {{len .Differences}} | {{.Connections}} |
{{end}}{{end}}
` + "`=`" + ` is what the plain column says.
{{range $s := .Sections}}{{if .Modes}}
## {{.Setting}}

| row | plain |{{range .Modes}} {{.Mode}} |{{end}}
|---|---|{{range .Modes}}---|{{end}}
{{range .Plain}}{{$row := .Row}}| {{.Row}} | {{cell .Text}} |{{range $s.Modes}} {{text . $row}} |{{end}}
{{end}}{{end}}{{end}}`))

func (t *table) writeMarkdown(w io.Writer) error {
	if err := markdown.Execute(w, t); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// command is how to run this again.
func command(args []string) string {
	return strings.Join(append([]string{"go run ./e2e/semantics"}, args[1:]...), " ")
}
