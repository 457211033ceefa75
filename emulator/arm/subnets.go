package arm

import (
	"net/http"
	"slices"
	"strings"
)

const subnetPattern = "/subscriptions/*/resourcegroups/*/providers/microsoft.network/virtualnetworks/*/subnets/*"

// subnet is a subnet as far as who reads it for its addresses sees it.
type subnet struct {
	id       resourceID
	etag     string
	prefixes []string
}

// PutSubnet creates or replaces the subnet id with the given address prefixes, one or several, as a third party would.
func (s *Server) PutSubnet(id string, prefixes ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parsed := parseID(id)
	s.networks[parsed.key()] = subnet{id: parsed, etag: newETag(), prefixes: slices.Clone(prefixes)}
}

// getSubnet answers as Microsoft.Network does (Subnets - Get): one prefix as addressPrefix, several as addressPrefixes; a missing subnet is a missing child.
func (s *Server) getSubnet(r request) response {
	n, ok := s.networks[r.id.key()]
	if !ok {
		return noChild(r.id).response()
	}
	props := object{}
	props.setText("provisioningState", string(stateSucceeded))
	if len(n.prefixes) == 1 {
		props.setText("addressPrefix", n.prefixes[0])
	} else {
		props.set("addressPrefixes", encode(n.prefixes))
	}
	if table, found := s.tableOf(n.id); found {
		props.set("routeTable", encode(map[string]string{"id": table}))
	}
	props.set("delegations", encode([]string{}))
	o := object{}
	o.setText("name", n.id.name())
	o.setText("id", n.id.String())
	o.setText("etag", n.etag)
	o.set("properties", props.raw())
	o.setText("type", "Microsoft.Network/virtualNetworks/subnets")
	return response{status: http.StatusOK, header: http.Header{"Etag": {n.etag}}, body: o.raw()}
}

// tableOf returns the id of the table that the subnet uses.
func (s *Server) tableOf(id resourceID) (string, bool) {
	for table, subnets := range s.subnets {
		if slices.ContainsFunc(subnets, func(used string) bool { return strings.EqualFold(used, id.String()) }) {
			if t := s.tables[table]; t != nil {
				return t.id.String(), true
			}
		}
	}
	return "", false
}
