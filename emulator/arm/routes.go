package arm

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
)

func (s *Server) getRoute(r request) response {
	t, f := s.lookup(r, r.id.parent())
	if f != nil {
		return f.response()
	}
	i := t.find(r.id.name())
	if i < 0 {
		return noChild(r.id).response()
	}
	return response{status: http.StatusOK, header: http.Header{"Etag": {t.etag}}, body: t.rawRoute(t.routes[i])}
}

// putRoute creates or replaces one route; the table and all its routes get a new ETag.
func (s *Server) putRoute(r request) response {
	current, f := s.lookup(r, r.id.parent())
	if f != nil {
		return f.response()
	}
	changed, f := parseRoute(r.body)
	if f != nil {
		return f.response()
	}
	changed.name = r.id.name()
	next := current.with(changed)
	if f = cmp.Or(next.validate(s.cfg.RoutesPerTable), s.faults.refuseECMP(r.version, next)); f == nil {
		f = s.checkWrite(r, current.id, current)
	}
	if f != nil {
		return f.response()
	}
	status, i := http.StatusCreated, current.find(changed.name)
	if i >= 0 {
		status = http.StatusOK
		if current.state == stateSucceeded && slices.EqualFunc(next.routes, current.routes, route.sameContent) {
			header := s.asyncHeader(r, s.finished(r, current), false)
			return response{status: status, header: header, body: current.rawRoute(current.routes[i])}
		}
	}
	next, op := s.write(r, "PutRouteOperation", current, next)
	return response{status: status, header: s.asyncHeader(r, op, false), body: next.rawRoute(next.routes[next.find(changed.name)])}
}

func (s *Server) deleteRoute(r request) response {
	current, f := s.lookup(r, r.id.parent())
	if f != nil {
		return f.response()
	}
	i := current.find(r.id.name())
	if i < 0 {
		return response{status: http.StatusNoContent}
	}
	if f = s.checkWrite(r, current.id, current); f != nil {
		return f.response()
	}
	leaving := current.routes[i]
	leaving.deleting = true
	_, op := s.write(r, "DeleteRouteOperation", current, current.with(leaving))
	return response{status: http.StatusAccepted, header: s.asyncHeader(r, op, true)}
}

func (s *Server) listRoutes(r request) response {
	t, f := s.lookup(r, r.id[:len(r.id)-1])
	if f != nil {
		return f.response()
	}
	items := map[string]json.RawMessage{}
	for _, one := range t.routes {
		items[t.id.route(one.name).key()] = t.rawRoute(one)
	}
	return s.page(r, items)
}
