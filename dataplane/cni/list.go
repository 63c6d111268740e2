package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"heddle.io/heddle/dataplane/cni/plugin"
)

// element is an entry in the text of a list of plugins.
type element struct {
	start, end int // in the text
	kind       string
}

// list is the text of a list of plugins, with where its entries are.
type list struct {
	text     []byte
	elements []element
}

var (
	errNoList   = errors.New("it has no list of plugins")
	errNoPlugin = errors.New("its list of plugins is empty")
)

// parse finds the entries in the text of a conflist.
func parse(text []byte) (list, error) {
	l := list{text: text}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := expect(d, json.Delim('{')); err != nil {
		return l, err
	}
	found := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return l, err
		}
		if key != "plugins" {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return l, err
			}
			continue
		}
		if found {
			return l, errors.New("it has two lists of plugins")
		}
		found = true
		if l.elements, err = entries(d); err != nil {
			return l, err
		}
	}
	if err := expect(d, json.Delim('}')); err != nil {
		return l, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, errors.New("there is more after its end")
	}
	switch {
	case !found:
		return l, errNoList
	case len(l.elements) == 0:
		return l, errNoPlugin
	}
	return l, nil
}

func expect(d *json.Decoder, want json.Delim) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v where %v belongs", token, want)
	}
	return nil
}

func entries(d *json.Decoder) ([]element, error) {
	if err := expect(d, json.Delim('[')); err != nil {
		return nil, err
	}
	var out []element
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		var entry struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(raw, &entry); err != nil || entry.Type == "" {
			return nil, errors.New("one of its plugins has no type")
		}
		end := int(d.InputOffset())
		out = append(out, element{end - len(raw), end, entry.Type})
	}
	return out, expect(d, json.Delim(']'))
}

// ours returns the place of Heddle's entry, -1 when there is none.
func (l list) ours() int {
	for i, e := range l.elements {
		if e.kind == plugin.Type {
			return i
		}
	}
	return -1
}

// others counts the plugins that are not Heddle's.
func (l list) others() int {
	n := 0
	for _, e := range l.elements {
		if e.kind != plugin.Type {
			n++
		}
	}
	return n
}

// with returns the text with entry as the only one of Heddle's: in place of the
// one that is there, else at the end. What else the text says stays as it is,
// and where it says so already nothing changes.
func (l list) with(entry []byte) []byte {
	if i := l.ours(); i >= 0 {
		e := l.elements[i]
		if same(l.text[e.start:e.end], entry) {
			return l.text
		}
		return splice(l.text, e.start, e.end, entry)
	}
	last := l.elements[len(l.elements)-1]
	return splice(l.text, last.end, last.end, append([]byte(separator), entry...))
}

// separator stands before the entry.
const separator = ",\n    "

// without returns the text without Heddle's entry.
func (l list) without() []byte {
	i := l.ours()
	switch {
	case i < 0:
		return l.text
	case i > 0:
		return splice(l.text, l.elements[i-1].end, l.elements[i].end, nil)
	case len(l.elements) > 1:
		return splice(l.text, l.elements[0].start, l.elements[1].start, nil)
	}
	return splice(l.text, l.elements[0].start, l.elements[0].end, nil)
}

func splice(text []byte, from, to int, insert []byte) []byte {
	out := make([]byte, 0, len(text)+len(insert))
	out = append(out, text[:from]...)
	out = append(out, insert...)
	return append(out, text[to:]...)
}

// same compares two JSON values apart from white space.
func same(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// single is a file that holds one plugin instead of a list.
type single struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`
}

// wrap returns a list with the plugin of a file that holds a single one, and
// entry after it.
func wrap(text, entry []byte) ([]byte, error) {
	var s single
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	if s.Type == "" || s.Name == "" {
		return nil, errors.New("it has no name or no type")
	}
	out, err := json.MarshalIndent(map[string]any{
		"cniVersion": s.CNIVersion, "name": s.Name,
		"plugins": []json.RawMessage{text, entry},
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(out, '\n'), nil
}
