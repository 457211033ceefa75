package arm

import (
	"slices"
	"strings"
)

// resourceID is the path of a resource or of a collection, split at its slashes. ARM compares it without case and keeps the case of
// the request that created the resource.
type resourceID []string

func parseID(path string) resourceID {
	return strings.Split(strings.Trim(path, "/"), "/")
}

func (id resourceID) String() string { return "/" + strings.Join(id, "/") }

// key is what two ids that mean the same resource have in common.
func (id resourceID) key() string { return strings.ToLower(id.String()) }

// pattern is the id in lower case with every name replaced by "*":
// /subscriptions/*/resourcegroups/*/providers/microsoft.network/routetables/*.
func (id resourceID) pattern() string {
	parts := slices.Clone(id)
	for i, part := range parts {
		parts[i] = strings.ToLower(part)
		if i%2 == 1 && parts[i-1] != "providers" {
			parts[i] = "*"
		}
	}
	return "/" + strings.Join(parts, "/")
}

// name is the resource's own name.
func (id resourceID) name() string { return id[len(id)-1] }

// parent drops the last type and name.
func (id resourceID) parent() resourceID { return id[:len(id)-2] }

// route returns the id of the table's route of that name.
func (id resourceID) route(name string) resourceID {
	return append(slices.Clone(id), "routes", name)
}

// after returns the part that follows label, "" if there is none.
func (id resourceID) after(label string) string {
	for i := 0; i+1 < len(id); i += 2 {
		if strings.EqualFold(id[i], label) {
			return id[i+1]
		}
	}
	return ""
}

func (id resourceID) subscription() string { return id.after("subscriptions") }
func (id resourceID) group() string        { return id.after("resourceGroups") }

// groupKey is the key of the resource group that the id is in, "" for a subscription's own collections.
func (id resourceID) groupKey() string {
	if id.group() == "" {
		return ""
	}
	return id[:4].key()
}

// kind is the full resource type, Microsoft.Network/routeTables/routes.
func (id resourceID) kind() string {
	i := slices.IndexFunc(id, func(part string) bool { return strings.EqualFold(part, "providers") })
	if i < 0 || i+1 >= len(id) {
		return "Microsoft.Resources/subscriptions/resourceGroups"
	}
	parts := []string{id[i+1]}
	for j := i + 2; j < len(id); j += 2 {
		parts = append(parts, id[j])
	}
	return strings.Join(parts, "/")
}

// within reports whether the resource is scope or below it; an empty scope holds everything.
func (id resourceID) within(scope string) bool {
	scope = strings.TrimSuffix(strings.ToLower(scope), "/")
	return scope == "" || id.key() == scope || strings.HasPrefix(id.key(), scope+"/")
}
