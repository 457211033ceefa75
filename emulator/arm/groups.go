package arm

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// group is a resource group, of which this emulator knows no more than that it is there.
type group struct {
	id       resourceID
	location string
	tags     json.RawMessage
}

func (g group) raw() json.RawMessage {
	o := object{}
	o.setText("id", g.id.String())
	o.setText("name", g.id.name())
	o.setText("type", "Microsoft.Resources/resourceGroups")
	o.setText("location", g.location)
	if g.tags != nil {
		o.set("tags", g.tags)
	}
	o.set("properties", json.RawMessage(`{"provisioningState":"Succeeded"}`))
	return o.raw()
}

func (s *Server) getGroup(r request) response {
	g, ok := s.groups[r.id.key()]
	if !ok {
		return noGroup(r.id.name()).response()
	}
	return response{status: http.StatusOK, body: g.raw()}
}

func (s *Server) putGroup(r request) response {
	body, err := parseObject(r.body)
	if err != nil {
		return invalidContent(err).response()
	}
	g := group{id: r.id, location: normalLocation(body.text("location"))}
	if g.location == "" {
		return gateway(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.").response()
	}
	g.tags, _ = body.get("tags")
	status := http.StatusCreated
	if old, ok := s.groups[r.id.key()]; ok {
		status, g.id = http.StatusOK, old.id
	}
	s.groups[r.id.key()] = g
	return response{status: status, body: g.raw()}
}

func (s *Server) listGroups(r request) response {
	items := map[string]json.RawMessage{}
	for key, g := range s.groups {
		if g.id.within("/subscriptions/" + r.id.subscription()) {
			items[key] = g.raw()
		}
	}
	return s.page(r, items)
}

// page answers a list in the order of the keys, from $skiptoken on, with a nextLink if more is left.
func (s *Server) page(r request, items map[string]json.RawMessage) response {
	keys := slices.Sorted(maps.Keys(items))
	from, found := slices.BinarySearch(keys, r.query.Get("$skiptoken"))
	if found {
		from++
	}
	keys = keys[from:]
	next := ""
	if size := s.cfg.PageSize; size > 0 && len(keys) > size {
		keys = keys[:size]
		query := url.Values{"api-version": {r.version}, "$skiptoken": {keys[size-1]}}
		next = r.base + (&url.URL{Path: r.id.String()}).EscapedPath() + "?" + query.Encode()
	}
	values := make([]json.RawMessage, 0, len(keys))
	for _, key := range keys {
		values = append(values, items[key])
	}
	o := object{}
	o.set("value", array(values))
	if next != "" {
		o.setText("nextLink", next)
	}
	return response{status: http.StatusOK, body: o.raw()}
}
