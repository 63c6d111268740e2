package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// leftOut stands where something may have been secret.
const leftOut = "(left out)"

// A credential is what one looks like, wherever it stands, and what is put in
// its place. JSON stays JSON.
type credential struct {
	like *regexp.Regexp
	mark string
}

var credentials = []credential{
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+`), leftOut}, // a JSON web token
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9+/_.=~-]{8,}`), "$1 " + leftOut},
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`), leftOut},
	{regexp.MustCompile(`(?i)((?:\b|_)(?:password|passwd|secret|token|api[_-]?key)["']?\s*[=:]\s*["']?)[^\s"'\\,}{[]{4,}`), "${1}" + leftOut},
}

// scrub takes credentials out of text.
func scrub(text []byte) []byte {
	for _, c := range credentials {
		text = c.like.ReplaceAll(text, []byte(c.mark))
	}
	return text
}

// secretive are the fields of objects whose contents people put secrets into.
// The names of environment variables and headers stay, their values do not.
var secretive = map[string]bool{
	"args": true, "command": true, // of containers, probes and hooks
	"volumeAttributes": true, "flexVolume": true,
	"data": true, "stringData": true, "binaryData": true,
}

// trimmed is an object of the API server without what is secret, or only long.
func trimmed(object json.RawMessage) (json.RawMessage, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	trim(v)
	text, err := json.Marshal(v)
	return scrub(text), err
}

func trim(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			trim(item)
		}
	case map[string]any:
		delete(v, "managedFields")
		for key, item := range v {
			switch {
			case secretive[key]:
				v[key] = leftOut
			case key == "env" || key == "httpHeaders":
				trimValues(item)
			case key == "annotations":
				trimAnnotations(item)
			default:
				trim(item)
			}
		}
	}
}

func trimValues(list any) {
	items, _ := list.([]any)
	for _, item := range items {
		if m, ok := item.(map[string]any); ok && m["value"] != nil {
			m["value"] = leftOut
		}
	}
}

// trimAnnotations keeps what Heddle and Kubernetes themselves say there; that
// of kubectl is the whole object again.
func trimAnnotations(v any) {
	annotations, _ := v.(map[string]any)
	for key := range annotations {
		domain, _, _ := strings.Cut(key, "/")
		if domain != "heddle.io" && domain != "policy.heddle.io" && domain != "deployment.kubernetes.io" {
			annotations[key] = leftOut
		}
	}
}
