package arm

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

const (
	groupPattern = "/subscriptions/*/resourcegroups/*"
	tablePattern = groupPattern + "/providers/microsoft.network/routetables/*"
	routePattern = tablePattern + "/routes/*"
)

// routeEndpoints returns the operations by method and pattern.
func (s *Server) routeEndpoints() map[string]endpoint {
	const subscription = "/subscriptions/*"
	const locations = subscription + "/providers/microsoft.network/locations/*"
	return map[string]endpoint{
		"GET " + tablePattern:                           {"routeTables.Get", s.getTable},
		"PUT " + tablePattern:                           {"routeTables.CreateOrUpdate", s.putTable},
		"PATCH " + tablePattern:                         {"routeTables.UpdateTags", s.patchTags},
		"DELETE " + tablePattern:                        {"routeTables.Delete", s.deleteTable},
		"GET " + strings.TrimSuffix(tablePattern, "/*"): {"routeTables.List", s.listTables},
		"GET " + subscription + "/providers/microsoft.network/routetables": {"routeTables.ListAll", s.listTables},
		"GET " + routePattern:                           {"routes.Get", s.getRoute},
		"PUT " + routePattern:                           {"routes.CreateOrUpdate", s.putRoute},
		"DELETE " + routePattern:                        {"routes.Delete", s.deleteRoute},
		"GET " + strings.TrimSuffix(routePattern, "/*"): {"routes.List", s.listRoutes},
		"GET " + subnetPattern:                          {"subnets.Get", s.getSubnet},
		"GET " + locations + "/operations/*":            {"operations.Get", s.getOperation},
		"GET " + locations + "/operationresults/*":      {"operationResults.Get", s.getOperationResult},
		"GET " + groupPattern:                           {"resourceGroups.Get", s.getGroup},
		"PUT " + groupPattern:                           {"resourceGroups.CreateOrUpdate", s.putGroup},
		"GET " + strings.TrimSuffix(groupPattern, "/*"): {"resourceGroups.List", s.listGroups},
	}
}

// lookup returns the table that r is about, or below which it is.
func (s *Server) lookup(r request, id resourceID) (*table, *failure) { return find(s, s.tables, r, id) }

// find returns what r is about, or what it is below, or ARM's or the provider's not-found.
func find[T any](s *Server, all map[string]*T, r request, id resourceID) (*T, *failure) {
	if _, ok := s.groups[id.groupKey()]; !ok {
		return nil, noGroup(id.group())
	}
	if found := all[id.key()]; found != nil {
		return found, nil
	}
	if len(r.id) > len(id) && r.method == http.MethodPut {
		return nil, noParent(id)
	}
	return nil, noResource(id)
}

func (s *Server) getTable(r request) response {
	t, f := s.lookup(r, r.id)
	if f != nil {
		return f.response()
	}
	return s.showTable(r, t, http.StatusOK, http.Header{"Etag": {t.etag}})
}

func (s *Server) showTable(r request, t *table, status int, header http.Header) response {
	return response{status: status, header: header, body: t.raw(s.view(t, r.version))}
}

// putTable replaces the whole table. The content shows at once, as Updating.
func (s *Server) putTable(r request) response {
	current, f := s.lookup(r, r.id)
	if f != nil && f.code != "ResourceNotFound" {
		return f.response()
	}
	next, f := parseTable(r.id, r.body)
	if f == nil {
		f = s.checkPut(r, current, next)
	}
	if f != nil {
		return f.response()
	}
	if current != nil && current.state == stateSucceeded && next.sameContent(current) {
		return s.noOp(r, current)
	}
	status := http.StatusCreated
	next.guid = newGUID()
	if current != nil {
		status, next.id, next.guid = http.StatusOK, current.id, current.guid
	}
	next, op := s.write(r, "PutRouteTableOperation", current, next)
	return s.showTable(r, next, status, s.asyncHeader(r, op, false)) // no ETag header: recorded PUTs have none
}

// checkPut decides whether next may replace current (nil: none).
func (s *Server) checkPut(r request, current, next *table) *failure {
	if f := cmp.Or(validName(next.id.name()), next.validate(s.cfg.RoutesPerTable), s.faults.refuseECMP(r.version, next)); f != nil {
		return f
	}
	if f := s.checkWrite(r, r.id, current); f != nil {
		return f
	}
	switch {
	case next.location == "":
		return gateway(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	case current != nil && current.location != next.location:
		return gateway(http.StatusConflict, "InvalidResourceLocation",
			"The resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in "+
				"location '%s'. Please select a new resource name.", r.id.name(), current.location, r.id.group(), next.location)
	case current == nil && s.countTables(r.id.subscription()) >= s.cfg.TablesPerSubscription:
		return gateway(http.StatusBadRequest, "ResourceCountExceedsLimitDueToTemplate",
			"Subscription '%s' in region '%s' has a quota of %d for resources of type RouteTable.",
			r.id.subscription(), next.location, s.cfg.TablesPerSubscription)
	}
	return nil
}

func (s *Server) countTables(subscription string) int {
	n := 0
	for _, t := range s.tables {
		if strings.EqualFold(t.id.subscription(), subscription) {
			n++
		}
	}
	return n
}

// checkWrite applies what every write to a table must pass: no other write in flight, then If-Match and If-None-Match. Which of the two
// the provider checks first is not documented.
func (s *Server) checkWrite(r request, id resourceID, current *table) *failure {
	if f := s.busy(r, id); f != nil {
		return f
	}
	etag := ""
	if current != nil {
		etag = current.etag
	}
	return unmet(r, id, etag)
}

// unmet applies If-Match and If-None-Match to what is there: its ETag, or "" for nothing.
func unmet(r request, id resourceID, etag string) *failure {
	if match := r.header.Get("If-Match"); match != "" {
		given := quoteETag(match)
		if etag == "" || match != "*" && given != etag {
			return etagMismatch(id, given, etag)
		}
	}
	if none := r.header.Get("If-None-Match"); none != "" && etag != "" && (none == "*" || quoteETag(none) == etag) {
		return etagMismatch(id, quoteETag(none), etag)
	}
	return nil
}

// noOp answers a PUT that changes nothing: 200, Succeeded, and yet an operation.
func (s *Server) noOp(r request, t *table) response {
	if s.cfg.NoOpChangesETag {
		next := *t
		next.etag = newETag()
		s.tables[t.id.key()] = &next
		t = &next
	}
	return s.showTable(r, t, http.StatusOK, s.asyncHeader(r, s.finished(r, t), false))
}

// finished returns an operation of t that has already succeeded.
func (s *Server) finished(r request, t *table) *operation { return s.ended(r, t.id, t.location) }

// ended returns an operation that has already succeeded.
func (s *Server) ended(r request, target resourceID, location string) *operation {
	op := &operation{
		id: newGUID(), target: target, location: location, version: r.version, principal: r.principal,
		due: s.cfg.Now(), status: opSucceeded, result: func() response { return response{status: http.StatusNoContent} },
	}
	s.operations[op.id] = op
	return op
}

// write makes next the table's content, with a new ETag, and starts the operation that completes it.
func (s *Server) write(r request, name string, current, next *table) (*table, *operation) {
	changed := *next
	changed.etag = newETag()
	if changed.state != stateDeleting {
		changed.state = stateUpdating
	}
	op := &operation{
		name: name, target: changed.id, location: changed.location, version: r.version, principal: r.principal,
		outcome: r.outcome, before: current, complete: s.completeTable, resource: r.id.String(), action: action(r),
	}
	op.result = func() response { return s.operationResult(op, r.method) }
	s.tables[changed.id.key()] = &changed
	s.begin(op, s.cfg.WriteDuration())
	s.notify(Event{Kind: WriteAccepted, Table: changed.id.String(), Resource: op.resource, Action: op.action, Operation: op.id, Principal: r.principal}, current, &changed)
	return &changed, op
}

// operationResult is the end of a Location poll: 204 for a deletion, as recorded, otherwise the table.
func (s *Server) operationResult(op *operation, method string) response {
	t := s.tables[op.target.key()]
	if method == http.MethodDelete || t == nil {
		return response{status: http.StatusNoContent}
	}
	return response{status: http.StatusOK, body: t.raw(s.view(t, op.version))}
}

// completeTable applies the end of op to its table: the ETag changes once more. If a newer write has been queued, the state is that
// write's.
func (s *Server) completeTable(op *operation) {
	key := op.target.key()
	current := s.tables[key]
	if current == nil {
		s.notify(op.event(), nil, nil)
		return
	}
	next := *current
	next.etag = newETag()
	if s.latest[key] == op {
		next = op.settled(next)
	}
	if next.state == "" {
		delete(s.tables, key)
		s.notify(op.event(), current, nil)
		return
	}
	s.tables[key] = &next
	s.notify(op.event(), current, &next)
}

// settled returns t after op has ended; an empty state means that the table is gone. A superseded write is undone, which is the worst
// that its client could find.
func (op *operation) settled(t table) table {
	switch op.status {
	case opFailed:
		t.state = stateFailed
		t.routes = slices.Clone(t.routes)
		for i := range t.routes {
			t.routes[i].deleting = false
		}
	case opCanceled:
		if op.before == nil {
			return table{}
		}
		return op.before.restored(t.etag)
	case opSucceeded:
		if t.state == stateDeleting {
			return table{}
		}
		t.state = stateSucceeded
		t.routes = slices.DeleteFunc(slices.Clone(t.routes), func(r route) bool { return r.deleting })
	case opInProgress:
		panic("arm: operation settled while in progress")
	}
	return t
}

// restored returns what t has become while a write that is now undone was in flight: what it waited for has completed.
func (t *table) restored(etag string) table {
	restored := *t
	restored.etag = etag
	restored.routes = slices.DeleteFunc(slices.Clone(t.routes), func(r route) bool { return r.deleting })
	if restored.state == stateUpdating {
		restored.state = stateSucceeded
	}
	return restored
}

// patchTags replaces the tags, at once; nothing else can be patched.
func (s *Server) patchTags(r request) response {
	current, f := s.lookup(r, r.id)
	if f == nil {
		f = s.checkWrite(r, r.id, current)
	}
	if f != nil {
		return f.response()
	}
	body, err := parseObject(r.body)
	if err != nil {
		return invalidContent(err).response()
	}
	tags, _ := body.get("tags")
	if len(body.without("tags")) > 0 || tags == nil {
		return provider(http.StatusBadRequest, "InvalidRequestFormat", "Cannot parse the request: only tags can be patched.").response()
	}
	next := *current
	next.tags, next.etag = tags, newETag()
	s.tables[r.id.key()] = &next
	s.notify(Event{Kind: WriteAccepted, Table: next.id.String(), Principal: r.principal}, current, &next)
	return s.showTable(r, &next, http.StatusOK, http.Header{})
}

func (s *Server) deleteTable(r request) response {
	current, f := s.lookup(r, r.id)
	if f != nil && f.code == "ResourceNotFound" {
		return response{status: http.StatusNoContent}
	}
	if f == nil {
		f = s.checkWrite(r, r.id, current)
	}
	if f == nil && len(s.subnets[r.id.key()]) > 0 {
		f = provider(http.StatusBadRequest, "InUseRouteTableCannotBeDeleted",
			"Route table %s is in use and cannot be deleted.", current.id.name())
	}
	if f != nil {
		return f.response()
	}
	next := *current
	next.state = stateDeleting
	_, op := s.write(r, "DeleteRouteTableOperation", current, &next)
	return response{status: http.StatusAccepted, header: s.asyncHeader(r, op, true)}
}

// listTables lists a resource group's tables or a subscription's.
func (s *Server) listTables(r request) response {
	if _, ok := s.groups[r.id.groupKey()]; !ok && r.id.group() != "" {
		return noGroup(r.id.group()).response()
	}
	scope := "/subscriptions/" + r.id.subscription()
	if r.id.group() != "" {
		scope = r.id.groupKey()
	}
	items := map[string]json.RawMessage{}
	for key, t := range s.tables {
		if t.id.within(scope) {
			items[key] = t.raw(view{version: r.version, list: true, subnets: s.subnets[key]})
		}
	}
	return s.page(r, items)
}
