package stack

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

// Where the emulated namespace is, if no table says in which subscription and group to put it.
const defaultGroup = "/subscriptions/00000000-0000-0000-0000-00000000beef/resourceGroups/hub"

// Ids of the roles that infra/ makes for the function app's identity.
const (
	roleID       = "00000000-0000-0000-0000-00000000a01e"
	serverRoleID = "00000000-0000-0000-0000-00000000a02e"
)

// furnish declares what stands around the tables and is only read: the role of the function app's identity, limits, and the Service Bus namespace.
func (s *Stack) furnish(cfg Config) error {
	resources := map[string]any{}
	group := defaultGroup
	for i, id := range slices.Sorted(maps.Keys(cfg.Tables)) {
		parts := strings.Split(strings.Trim(id, "/"), "/")
		if len(parts) < 4 {
			continue // PutTable has said so
		}
		subscription := "/subscriptions/" + parts[1]
		if i == 0 {
			group = subscription + "/resourceGroups/" + parts[3]
		}
		s.grant(resources, id, roleID, "Pointsman route tables",
			"Microsoft.Network/routeTables/read", "Microsoft.Network/routeTables/write", "Microsoft.Network/virtualNetworks/subnets/read")
		for name, limit := range map[string]int{"RouteTables": 600, "RoutesPerRouteTable": 1000} {
			resources[subscription+"/providers/Microsoft.Network/locations/"+location(cfg.Tables[id])+"/usages/"+name] = map[string]any{
				"name": map[string]string{"value": name, "localizedValue": name}, "currentValue": len(cfg.Tables), "limit": limit, "unit": "Count",
			}
		}
	}
	for _, id := range cfg.RouteServers {
		s.grant(resources, id, serverRoleID, "Pointsman route servers",
			"Microsoft.Network/virtualHubs/read", "Microsoft.Network/virtualHubs/bgpConnections/read", "Microsoft.Network/virtualHubs/bgpConnections/write",
			"Microsoft.Network/virtualHubs/bgpConnections/delete", "Microsoft.Network/virtualHubs/bgpConnections/*/action")
	}
	namespace := group + "/providers/Microsoft.ServiceBus/namespaces/pointsman"
	resources[namespace] = map[string]any{
		"location": "westeurope", "sku": map[string]string{"name": "Standard", "tier": "Standard"},
		"properties": map[string]any{"status": "Active", "disableLocalAuth": false, "serviceBusEndpoint": "https://" + s.Bus.Addr() + "/"},
	}
	for id, body := range cfg.Resources {
		resources[id] = body
	}
	for id, body := range resources {
		text, err := json.Marshal(body)
		if err == nil {
			err = s.ARM.PutResource(id, text)
		}
		if err != nil {
			return fmt.Errorf("resource %s: %w", id, err)
		}
	}
	for _, q := range queues() {
		s.ARM.ShowResource(namespace+"/queues/"+q.Name, func() json.RawMessage { return s.showQueue(q) })
	}
	return nil
}

// grant gives the function app's identity a role on a resource, with the actions that every role of it has beside its own.
func (s *Stack) grant(resources map[string]any, id, roleID, name string, actions ...string) {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	if len(parts) < 4 {
		return // whoever makes the resource says so
	}
	role := "/subscriptions/" + parts[1] + "/providers/Microsoft.Authorization/roleDefinitions/" + roleID
	resources[role] = properties(map[string]any{"roleName": name, "permissions": []any{map[string]any{
		"actions": append(actions, "Microsoft.Network/locations/operations/read", "Microsoft.Network/locations/operationResults/read"), "notActions": []string{},
	}}})
	resources[id+"/providers/Microsoft.Authorization/roleAssignments/"+roleID] = properties(map[string]any{"principalId": s.Identity.Principal(), "roleDefinitionId": role, "scope": id})
}

func properties(p map[string]any) map[string]any { return map[string]any{"properties": p} }

// location is that of a table's body.
func location(body json.RawMessage) string {
	var t struct {
		Location string `json:"location"`
	}
	_ = json.Unmarshal(body, &t) // PutTable has read it
	if t.Location == "" {
		return "eastus"
	}
	return t.Location
}

// showQueue is a queue as the service shows it (Queues - Get).
func (s *Stack) showQueue(q servicebus.QueueConfig) json.RawMessage {
	stats, _ := s.Bus.Queue(q.Name)
	dead, _ := s.Bus.Queue(q.Name + "/$DeadLetterQueue")
	text, err := json.Marshal(properties(map[string]any{
		"lockDuration": iso(q.LockDuration), "maxDeliveryCount": q.MaxDeliveryCount, "defaultMessageTimeToLive": iso(q.DefaultTTL), "status": "Active",
		"requiresDuplicateDetection": q.DuplicateWindow > 0, "duplicateDetectionHistoryTimeWindow": iso(q.DuplicateWindow),
		"requiresSession": q.RequiresSession, "deadLetteringOnMessageExpiration": q.DeadLetterOnExpiration,
		"countDetails": map[string]int{"activeMessageCount": stats.Active, "deadLetterMessageCount": dead.Active},
	}))
	if err != nil {
		panic("stack: " + err.Error())
	}
	return text
}

// iso writes a duration of whole seconds as ISO 8601 does.
func iso(d time.Duration) string { return fmt.Sprintf("PT%dS", int(d/time.Second)) }
