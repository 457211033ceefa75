package arm

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Resources that are only read, of any provider: network interfaces, namespaces and queues of Service Bus, usages, locks, role assignments and definitions. The paths are
// those of the REST specifications: Microsoft.Authorization (permissions 2022-04-01, locks 2020-05-01, role assignments and definitions 2022-04-01), Microsoft.Network
// (networkInterfaces, usages), Microsoft.ServiceBus (namespaces, queues), Microsoft.PolicyInsights (checkPolicyRestrictions).

// Permission is what an identity may do: what Actions match, without what NotActions match.
type Permission struct {
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions"`
}

// reads is what is only read.
type reads struct {
	resources   map[string]readable     // by key of the id
	permissions map[string][]Permission // by key of the scope, of every caller
}

// readable is a resource; show is called at every request.
type readable struct {
	id   resourceID
	show func() json.RawMessage
}

const (
	groupScope   = "/subscriptions/*/resourcegroups/*"
	providerPath = `/subscriptions/\*(/resourcegroups/\*)?/providers/microsoft\.[a-z]+`
)

// PutResource declares a resource that is only read; name, id and type are put into its body. It shows in the lists of its type: of what it is below, of its
// resource group and of its subscription.
func (s *Server) PutResource(id string, body json.RawMessage) error {
	o, err := parseObject(body)
	if err != nil {
		return fmt.Errorf("ARM emulator: %s: %w", id, err)
	}
	s.ShowResource(id, func() json.RawMessage { return o.raw() })
	return nil
}

// ShowResource is PutResource with a body that is made anew at each request. It must be a JSON object.
func (s *Server) ShowResource(id string, show func() json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parsed := parseID(id)
	s.reads.resources[parsed.key()] = readable{parsed, show}
}

// DeleteResource takes a resource away that PutResource or ShowResource declared.
func (s *Server) DeleteResource(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reads.resources, parseID(id).key())
}

// Allow declares what every caller may do in the scope (an id) and below. As long as there is no such declaration all may do everything but what [Faults.Forbid] took
// away. It is what the service answers when it is asked, and does not decide on requests.
func (s *Server) Allow(scope string, permissions ...Permission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads.permissions[parseID(scope).key()] = slices.Clone(permissions)
}

func newReads() reads {
	return reads{resources: map[string]readable{}, permissions: map[string][]Permission{}}
}

// readEndpoint returns the operation of a request about what is only read.
func (s *Server) readEndpoint(method string, id resourceID) (endpoint, bool) {
	path := id.pattern()
	scope, own := strings.CutSuffix(path, "/providers/microsoft.authorization/permissions")
	switch {
	case method == http.MethodPost && path == groupScope+"/providers/microsoft.policyinsights/checkpolicyrestrictions":
		return endpoint{"policyRestrictions.Check", s.checkPolicy}, true
	case method != http.MethodGet:
		return endpoint{}, false
	case own && strings.HasPrefix(scope, "/subscriptions/*"):
		return endpoint{"permissions.List", s.listPermissions}, true
	case strings.HasPrefix(path, "/subscriptions/*") && strings.HasSuffix(path, "/providers/microsoft.authorization/locks"):
		return endpoint{"locks.List", s.listLocks}, true
	case strings.HasPrefix(path, "/subscriptions/*") && strings.HasSuffix(path, "/providers/microsoft.authorization/roleassignments"):
		return endpoint{"roleAssignments.List", s.listAssignments}, true
	case regexp.MustCompile(`^` + providerPath + `/(networkinterfaces|namespaces(/\*/queues)?|locations/\*/usages)$`).MatchString(path):
		return endpoint{"resources.List", s.listResources}, true
	case regexp.MustCompile(`^` + providerPath + `/(networkinterfaces/\*|namespaces/\*(/queues/\*)?|roledefinitions/\*)$`).MatchString(path):
		return endpoint{"resources.Get", s.getResource}, true
	}
	return endpoint{}, false
}

// body is the resource as it is shown.
func (r readable) body() json.RawMessage {
	o, err := parseObject(r.show())
	if err != nil {
		return r.show()
	}
	o.setText("id", r.id.String())
	o.setText("type", parseID("subscriptions/x/"+strings.Join(r.id[len(scopeOf(r.id)):], "/")).kind())
	if _, named := o.get("name"); !named { // a usage has a name of its own
		o.setText("name", r.id.name())
	}
	return o.raw()
}

func (s *Server) getResource(r request) response {
	found, ok := s.reads.resources[r.id.key()]
	if !ok {
		return noResource(r.id).response()
	}
	return response{status: http.StatusOK, body: found.body()}
}

// listResources lists a type: of a parent or a resource group, or of a whole subscription.
func (s *Server) listResources(r request) response {
	whole := r.id.group() == "" && len(r.id) == len([]string{"subscriptions", "ID", "providers", "PROVIDER", "TYPE"})
	return s.list(func(id resourceID) bool {
		all := whole && strings.EqualFold(r.id.subscription(), id.subscription()) && strings.EqualFold(id.kind(), r.id.kind())
		return all || id[:len(id)-1].key() == r.id.key()
	})
}

func (s *Server) list(wanted func(resourceID) bool, more ...json.RawMessage) response {
	list := slices.Clone(more)
	for _, key := range slices.Sorted(maps.Keys(s.reads.resources)) {
		if found := s.reads.resources[key]; wanted(found.id) {
			list = append(list, found.body())
		}
	}
	return response{status: http.StatusOK, body: encode(map[string]any{"value": append([]json.RawMessage{}, list...)})}
}

// scopeOf returns what a resource of Microsoft.Authorization is about, by the last "providers" of its id.
func scopeOf(id resourceID) resourceID {
	for i, part := range slices.Backward(id) {
		if strings.EqualFold(part, "providers") {
			return id[:i]
		}
	}
	return id
}

// listLocks lists the locks of a scope and of what is below it, which is what the service documents: the locks above, which hold too, are not among them.
func (s *Server) listLocks(r request) response {
	scope := scopeOf(r.id)
	var scripted []json.RawMessage
	for i, locked := range s.faults.locked() {
		if parseID(locked).within(scope.String()) {
			name := fmt.Sprintf("lock-%d", i)
			scripted = append(scripted, encode(map[string]any{
				"id": strings.TrimSuffix(locked, "/") + "/providers/Microsoft.Authorization/locks/" + name, "name": name, "type": "Microsoft.Authorization/locks",
				"properties": map[string]string{"level": "ReadOnly"},
			}))
		}
	}
	return s.list(func(id resourceID) bool {
		return strings.HasSuffix(id.pattern(), "/providers/microsoft.authorization/locks/*") && scopeOf(id).within(scope.String())
	}, scripted...)
}

// listAssignments lists the role assignments that hold in a scope: at it, above it and below it; those of one principal where the filter assignedTo names it.
func (s *Server) listAssignments(r request) response {
	scope := scopeOf(r.id)
	principal := ""
	if filter := r.query.Get("$filter"); strings.HasPrefix(filter, "assignedTo('") {
		principal = strings.TrimSuffix(strings.TrimPrefix(filter, "assignedTo('"), "')")
	}
	return s.list(func(id resourceID) bool {
		if !strings.HasSuffix(id.pattern(), "/providers/microsoft.authorization/roleassignments/*") {
			return false
		}
		var body struct {
			Properties struct{ PrincipalID string }
		}
		_ = json.Unmarshal(s.reads.resources[id.key()].show(), &body)
		about := scopeOf(id)
		return (principal == "" || body.Properties.PrincipalID == principal) && (about.within(scope.String()) || scope.within(about.String()))
	})
}

// listPermissions says what the caller may do.
func (s *Server) listPermissions(r request) response {
	scope := scopeOf(r.id)
	permissions := []Permission{}
	for _, key := range slices.Sorted(maps.Keys(s.reads.permissions)) {
		if scope.within(key) {
			permissions = append(permissions, s.reads.permissions[key]...)
		}
	}
	if len(s.reads.permissions) == 0 {
		permissions = []Permission{{Actions: []string{"*"}, NotActions: s.faults.taken(r.principal, scope)}}
	}
	return response{status: http.StatusOK, body: encode(map[string]any{"value": permissions})}
}

// checkPolicy says which policies would deny a resource in the group: those of [Faults.DenyPolicy].
func (s *Server) checkPolicy(r request) response {
	var asked struct {
		ResourceDetails struct {
			ResourceContent map[string]json.RawMessage `json:"resourceContent"`
		} `json:"resourceDetails"`
	}
	if err := json.Unmarshal(r.body, &asked); err != nil || asked.ResourceDetails.ResourceContent["type"] == nil {
		return gateway(http.StatusBadRequest, "InvalidCheckRestrictionsRequest", "The request content is invalid: resourceDetails.resourceContent.type is needed.").response()
	}
	var name string
	_ = json.Unmarshal(asked.ResourceDetails.ResourceContent["name"], &name)
	evaluations := []any{}
	table := parseID(scopeOf(r.id).String() + "/providers/Microsoft.Network/routeTables/" + name)
	for _, scope := range s.faults.policies() {
		if table.within(scope) {
			assignment := strings.TrimSuffix(scope, "/") + "/providers/Microsoft.Authorization/policyAssignments/locked"
			evaluations = append(evaluations, map[string]any{
				"policyInfo":       map[string]string{"policyAssignmentId": assignment, "policyDefinitionId": "/providers/Microsoft.Authorization/policyDefinitions/locked"},
				"evaluationResult": "NonCompliant", "effectDetails": map[string]string{"policyEffect": "Deny"},
			})
		}
	}
	return response{status: http.StatusOK, body: encode(map[string]any{"fieldRestrictions": []any{}, "contentEvaluationResult": map[string]any{"policyEvaluations": evaluations}})}
}

// locked returns the scopes with a read-only lock.
func (f *Faults) locked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.locks)
}

// policies returns the scopes in which a policy denies writes.
func (f *Faults) policies() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.denied)
}

// taken returns the actions that Forbid took away from the principal in the whole scope.
func (f *Faults) taken(principal string, scope resourceID) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []string{}
	for _, rule := range f.forbidden {
		if (rule.principal != "" && rule.principal != principal) || !scope.within(rule.scope) {
			continue
		}
		switch rule.method {
		case "":
			out = append(out, "*")
		default:
			out = append(out, "*/"+verb(rule.method))
		}
	}
	return out
}
