package replay

import "github.com/pointsman/pointsman/shared/plan"

// Apply is apply, for the slow replay of the tests.
func Apply(table plan.Table, edit plan.Edit) plan.Table { return apply(table, edit) }

// Changes is changes.
func Changes(list []plan.Change) []Change { return changes(list) }
