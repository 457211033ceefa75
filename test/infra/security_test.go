package infra_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// roles are the built-in roles by id. Source: "Azure built-in roles".
func roles() map[string]string {
	return map[string]string{
		"4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0": "Azure Service Bus Data Receiver",
		"69a216fc-b8fb-44d8-bc22-1f3c2cd27a39": "Azure Service Bus Data Sender",
		"090c5cfd-751d-490a-894a-3ce6f1109419": "Azure Service Bus Data Owner",
		"ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
		"b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
		"d5a91429-5739-47e2-a06b-3470a27159e7": "EventGrid Data Sender",
		"3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
	}
}

// TestRolesAreDocumented: docs/security.md lists every role that infra/ assigns, no other, and the actions of the custom role.
func TestRolesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rights, _ := strings.Cut(string(doc), "\n## Rights\n")
	files, err := filepath.Glob("../../infra/modules/*.bicep")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d modules (%v)", len(files), err)
	}
	assigned := map[string]bool{}
	for _, file := range files {
		text, unread := os.ReadFile(file)
		if unread != nil {
			t.Fatal(unread)
		}
		for _, id := range regexp.MustCompile(`'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'`).FindAllStringSubmatch(string(text), -1) {
			name := roles()[id[1]]
			if assigned[name] = true; name == "" || !strings.Contains(rights, name) {
				t.Errorf("%s: the role %s (%q) is not in docs/security.md", file, id[1], name)
			}
		}
		for _, action := range regexp.MustCompile(`'Microsoft\.[A-Za-z/]+/(?:operations|operationResults|routeTables)/[a-z]+'`).FindAllString(string(text), -1) {
			parts := strings.Split(strings.Trim(action, "'"), "/")
			if last := parts[len(parts)-2] + "/" + parts[len(parts)-1]; !strings.Contains(rights, last) && !strings.Contains(rights, "…/"+parts[len(parts)-1]) {
				t.Errorf("%s: the action %s is not in docs/security.md", file, action)
			}
		}
	}
	for _, name := range roles() {
		if !assigned[name] {
			t.Errorf("docs/security.md lists the role %s, which infra/ does not assign", name)
		}
	}
}
