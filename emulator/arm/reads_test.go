package arm_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	emulator "github.com/pointsman/pointsman/emulator/arm"
)

// names returns the ids, or else the names, of a list.
func names(t *testing.T, body string) string {
	t.Helper()
	var list struct {
		Value []struct{ ID, Name string } `json:"value"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var out []string
	for _, x := range list.Value {
		out = append(out, x.ID)
	}
	return strings.Join(out, " ")
}

func TestReadResources(t *testing.T) {
	const sub = "/subscriptions/" + subscription
	const nic, other = groupID + "/providers/Microsoft.Network/networkInterfaces/a", "/subscriptions/9/resourceGroups/rg/providers/Microsoft.Network/networkInterfaces/b"
	const namespace = groupID + "/providers/Microsoft.ServiceBus/namespaces/bus"
	k := start(t, emulator.Config{})
	for _, id := range []string{nic, other, namespace, namespace + "/queues/q", sub + "/providers/Microsoft.Network/locations/eastus/usages/RouteTables"} {
		if err := k.PutResource(id, []byte(`{"properties": {"x": 1}}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.PutResource(nic, []byte(`[]`)); err == nil {
		t.Error("a body that is no object is taken")
	}
	get := k.do(t, http.MethodGet, strings.ToUpper(nic)+version, "")
	if get.status != http.StatusOK || !strings.Contains(get.body, `"type":"Microsoft.Network/networkInterfaces"`) || !strings.Contains(get.body, `"name":"a"`) || !strings.Contains(get.body, `"id":"`+nic+`"`) {
		t.Errorf("%d %s", get.status, get.body)
	}
	if queue := k.do(t, http.MethodGet, namespace+"/queues/q"+version, ""); !strings.Contains(queue.body, `"type":"Microsoft.ServiceBus/namespaces/queues"`) {
		t.Errorf("%s", queue.body)
	}
	for path, want := range map[string]string{
		sub + "/providers/Microsoft.Network/networkInterfaces":           nic,
		groupID + "/providers/Microsoft.Network/networkInterfaces":       nic,
		"/subscriptions/9/providers/Microsoft.Network/networkInterfaces": other,
		sub + "/providers/Microsoft.ServiceBus/namespaces":               namespace,
		namespace + "/queues": namespace + "/queues/q",
		sub + "/providers/Microsoft.Network/locations/eastus/usages":        sub + "/providers/Microsoft.Network/locations/eastus/usages/RouteTables",
		sub + "/providers/Microsoft.Network/locations/westeurope/usages":    "",
		"/subscriptions/none/providers/Microsoft.Network/networkInterfaces": "",
	} {
		if got := k.do(t, http.MethodGet, path+version, ""); got.status != http.StatusOK || names(t, got.body) != want {
			t.Errorf("%s: %d %s, want %s", path, got.status, got.body, want)
		}
	}
	k.DeleteResource(nic)
	for method, status := range map[string]int{http.MethodGet: http.StatusNotFound, http.MethodPut: http.StatusNotFound, http.MethodDelete: http.StatusNotFound} {
		if got := k.do(t, method, nic+version, "{}"); got.status != status {
			t.Errorf("%s: %d %s", method, got.status, got.body)
		}
	}
}

func TestReadRights(t *testing.T) {
	const permissions = tableID + "/providers/Microsoft.Authorization/permissions"
	k := start(t, emulator.Config{})
	ask := func(want string) {
		t.Helper()
		if got := k.do(t, http.MethodGet, permissions+version, ""); got.status != http.StatusOK || got.body != want {
			t.Errorf("%d %s, want %s", got.status, got.body, want)
		}
	}
	ask(`{"value":[{"actions":["*"],"notActions":[]}]}`)
	k.Faults().Forbid("", groupID, http.MethodPut)
	k.Faults().Forbid("", "/subscriptions/9", "")
	ask(`{"value":[{"actions":["*"],"notActions":["*/write"]}]}`)
	k.Allow(groupID, emulator.Permission{Actions: []string{"*/read"}, NotActions: []string{}})
	k.Allow(tableID, emulator.Permission{Actions: []string{"Microsoft.Network/routeTables/write"}, NotActions: []string{}})
	k.Allow("/subscriptions/9", emulator.Permission{Actions: []string{"*"}})
	ask(`{"value":[{"actions":["*/read"],"notActions":[]},{"actions":["Microsoft.Network/routeTables/write"],"notActions":[]}]}`)

	for name, scope := range map[string]string{"above": groupID, "here": tableID, "below": tableID + "/routes/r", "elsewhere": "/subscriptions/9"} {
		for principal, n := range map[string]string{"app": "1", "other": "2"} {
			if err := k.PutResource(scope+"/providers/Microsoft.Authorization/roleAssignments/"+name+n, []byte(`{"properties": {"principalId": "`+principal+`"}}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := k.do(t, http.MethodGet, tableID+"/providers/Microsoft.Authorization/roleAssignments"+version+"&$filter=assignedTo('app')", "")
	if list := names(t, got.body); strings.Count(list, " ") != 2 || !strings.Contains(list, "above1") || !strings.Contains(list, "here1") || !strings.Contains(list, "below1") || !strings.Contains(got.body, `"type":"Microsoft.Authorization/roleAssignments"`) {
		t.Errorf("%s", got.body)
	}
}

func TestReadLocks(t *testing.T) {
	k := start(t, emulator.Config{})
	k.Faults().Lock(groupID)
	k.Faults().Lock(tableID)
	if err := k.PutResource(tableID+"/providers/Microsoft.Authorization/locks/keep", []byte(`{"properties": {"level": "CanNotDelete"}}`)); err != nil {
		t.Fatal(err)
	}
	for scope, want := range map[string]int{tableID: 2, groupID: 3, "/subscriptions/" + subscription: 3, "/subscriptions/9": 0} {
		got := k.do(t, http.MethodGet, scope+"/providers/Microsoft.Authorization/locks"+version, "")
		if n := strings.Count(got.body, `"level":`); got.status != http.StatusOK || n != want {
			t.Errorf("%s: %d, %d locks, want %d: %s", scope, got.status, n, want, got.body)
		}
	}
}

func TestCheckPolicy(t *testing.T) {
	const path = groupID + "/providers/Microsoft.PolicyInsights/checkPolicyRestrictions" + version
	const question = `{"resourceDetails": {"resourceContent": {"type": "Microsoft.Network/routeTables", "name": "hub"}}}`
	k := start(t, emulator.Config{})
	k.Faults().Lock(groupID) // a question is no write
	if got := k.do(t, http.MethodPost, path, question); got.status != http.StatusOK || !strings.Contains(got.body, `"policyEvaluations":[]`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	k.Faults().DenyPolicy(tableID)
	if got := k.do(t, http.MethodPost, path, question); !strings.Contains(got.body, `"policyEffect":"Deny"`) || !strings.Contains(got.body, `"evaluationResult":"NonCompliant"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := k.do(t, http.MethodPost, path, `{}`); got.status != http.StatusBadRequest {
		t.Errorf("%d %s", got.status, got.body)
	}
}
