package infra_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/config"
)

// squeezed is a module with its white space made single, so that texts of several lines can be looked for.
func squeezed(t *testing.T, module string) string {
	t.Helper()
	return strings.Join(strings.Fields(contents(t, "infra", module)), " ")
}

// TestStateCanBeBroughtBack: documents and containers that were deleted or overwritten by mistake are kept for a while.
func TestStateCanBeBroughtBack(t *testing.T) {
	state := squeezed(t, "modules/state.bicep")
	for _, want := range []string{
		"isVersioningEnabled: true", " deleteRetentionPolicy: { enabled: true days: retentionDays }", "containerDeleteRetentionPolicy: { enabled: true days: retentionDays }",
		"allowSharedKeyAccess: false", "allowBlobPublicAccess: false",
	} {
		if !strings.Contains(state, want) {
			t.Errorf("modules/state.bicep has no %q", want)
		}
	}
}

// TestPrivateEndpointsCloseThePublicOnes: with the parameter each service has an endpoint, and none stays reachable from elsewhere but the app, where that is asked for.
func TestPrivateEndpointsCloseThePublicOnes(t *testing.T) {
	main, network := squeezed(t, "main.bicep"), squeezed(t, "modules/network.bicep")
	for _, want := range []string{"param privateEndpointSubnetId string = ''", "var private = !empty(privateEndpointSubnetId)", "module network 'modules/network.bicep' = if (private)", "tier: private ? 'Premium' : busTier"} {
		if !strings.Contains(main, want) {
			t.Errorf("main.bicep has no %q", want)
		}
	}
	for _, kind := range []string{"namespace", "topic", "blob", "sites"} {
		if !strings.Contains(network, "kind: '"+kind+"'") {
			t.Errorf("there is no private endpoint of kind %s", kind)
		}
	}
	for _, module := range []string{"bus", "events", "state", "app"} {
		text := squeezed(t, "modules/"+module+".bicep")
		switches := regexp.MustCompile(`publicNetworkAccess: (\w+) \? 'Enabled' : 'Disabled'`).FindAllStringSubmatch(text, -1)
		if len(switches) == 0 || len(switches) != strings.Count(text, "publicNetworkAccess:") {
			t.Errorf("modules/%s.bicep does not close its public endpoint by a parameter", module)
		}
	}
	if got := strings.Count(main, "ublic: !private"); got != 5 {
		t.Errorf("%d of the 5 public endpoints depend on the parameter", got)
	}
}

// TestCostsFollowFromTheDefaults: the quantities of infra/README.md are those of the agent's defaults and of the timer.
func TestCostsFollowFromTheDefaults(t *testing.T) {
	page := contents(t, "infra", "README.md")
	day := 24 * time.Hour
	beats := 2 * int(day/config.DefaultEvery)
	var example struct{ Values map[string]string }
	if err := json.Unmarshal([]byte(contents(t, "local.settings.example.json")), &example); err != nil {
		t.Fatal(err)
	}
	var minutes int
	if _, err := fmt.Sscanf(example.Values["SweepSchedule"], "0 */%d * * * *", &minutes); err != nil {
		t.Fatal(err)
	}
	sweeps := int(day / (time.Duration(minutes) * time.Minute))
	for _, want := range []string{
		fmt.Sprintf("At the default of %d s: %d,%03d a day, %.2f million in 30 days", int(config.DefaultEvery.Seconds()), beats/1000, beats%1000, float64(30*beats)/1e6),
		fmt.Sprintf("instead of %d s", int(config.DefaultTimeout.Seconds())),
		fmt.Sprintf("every %d minutes (%d a day): 1 message", int(config.DefaultSnapshot.Minutes()), int(day/config.DefaultSnapshot)),
		fmt.Sprintf("every %d minutes (%d a day): 1 Sweep execution", minutes, sweeps),
		fmt.Sprintf("2 × %d × 14", sweeps),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("infra/README.md does not say %q", want)
		}
	}
}
