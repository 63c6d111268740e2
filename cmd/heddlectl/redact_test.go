package main

import (
	"strings"
	"testing"
)

// Names of secrets are mostly longer than the word that tells what they are.
func TestScrubLongNames(t *testing.T) {
	for _, text := range []string{
		"DB_PASSWORD=hunter2-hunter2", "client_secret: hunter2-hunter2", `{"access_token":"hunter2-hunter2"}`, "AWS_API_KEY=hunter2-hunter2", "token=hunter2-hunter2",
	} {
		if got := string(scrub([]byte(text))); strings.Contains(got, "hunter2") || !strings.Contains(got, leftOut) {
			t.Errorf("%s becomes %s", text, got)
		}
	}
	if same := `{"automountServiceAccountToken":true}`; string(scrub([]byte(same))) != same {
		t.Errorf("%s becomes %s", same, scrub([]byte(same)))
	}
}
