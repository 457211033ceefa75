package state_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/later"
	"github.com/pointsman/pointsman/shared/state"
)

// fill puts something into every field, so that a field that is added later is in the tests that use it.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case netip.Prefix:
		v.Set(reflect.ValueOf(prefix(7)))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(prefix(7).Addr()))
		return
	case time.Time:
		v.Set(reflect.ValueOf(epochTime(7)))
		return
	case state.Outcome:
		v.Set(reflect.ValueOf(state.Refused))
		return
	case later.Rest: // no field of a document, but what it says beyond its fields
		return
	}
	switch kind := v.Kind(); {
	case kind == reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case kind == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case kind == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case kind == reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case kind == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.SetMapIndex(key, value)
	case kind == reflect.String:
		v.SetString("word")
	case kind == reflect.Bool:
		v.SetBool(true)
	case v.CanFloat():
		v.SetFloat(7)
	case v.CanInt():
		v.SetInt(1)
	default:
		v.SetUint(1)
	}
}

// shared names what of b is the same memory as in a.
func shared(at string, a, b reflect.Value) []string {
	switch a.Interface().(type) {
	case netip.Prefix, netip.Addr, time.Time:
		return nil // never changed in place
	}
	var out []string
	switch kind := a.Kind(); {
	case kind == reflect.Struct:
		for field, value := range a.Fields() {
			out = append(out, shared(at+"."+field.Name, value, b.FieldByIndex(field.Index))...)
		}
	case kind != reflect.Pointer && kind != reflect.Slice && kind != reflect.Map:
	case a.Pointer() == b.Pointer():
		return []string{at}
	case kind == reflect.Pointer:
		return shared(at, a.Elem(), b.Elem())
	case kind == reflect.Slice:
		return shared(at+"[0]", a.Index(0), b.Index(0))
	default:
		for _, k := range a.MapKeys() {
			out = append(out, shared(fmt.Sprintf("%s[%v]", at, k), a.MapIndex(k), b.MapIndex(k))...)
		}
	}
	return out
}

func TestCopySharesNothing(t *testing.T) {
	n := &state.NVA{}
	fill(reflect.ValueOf(n).Elem())
	c := n.Copy()
	if d := diff(n, c); d != "" {
		t.Errorf("the copy differs:\n%s", d)
	}
	if same := shared("NVA", reflect.ValueOf(n), reflect.ValueOf(c)); len(same) > 0 {
		t.Errorf("a change of the copy changes the original: %v", same)
	}
}

// What a target's copy shares with the original, only ever replaced as a whole. A new field is not in the list until somebody has made sure of that.
func TestCopyOfATargetSharesOnlyWhatIsReplaced(t *testing.T) {
	n := &state.Target{}
	fill(reflect.ValueOf(n).Elem())
	c := n.Copy()
	if d := diff(n, c); d != "" {
		t.Errorf("the copy differs:\n%s", d)
	}
	want := []string{
		"Target.Owned", "Target.Intents[0].Writing", "Target.Left.Events", "Target.Left.Traces", "Target.Pending", "Target.NoECMP", "Target.Applied", "Target.Result.Events",
		"Target.Result.Blocked", "Target.Result.Refused", "Target.Result.Warnings", "Target.Carried", "Target.Counts", "Target.Proposal", "Target.Subnets", "Target.Written",
		"Target.Maybe", "Target.Drifted", "Target.Hands", "Target.Outcomes.Events", "Target.RouteServer.Learned[0].Heard",
	}
	if d := diff(want, shared("Target", reflect.ValueOf(n), reflect.ValueOf(c))); d != "" {
		t.Errorf("shared (-want +got):\n%s", d)
	}
}

// A field that is forgotten by the codec is lost at the first write.
func TestEveryFieldIsKept(t *testing.T) {
	target := &state.Target{}
	fill(reflect.ValueOf(target).Elem())
	target.Schema = state.Schema // with an operator's word in it
	body, err := state.EncodeTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	back, err := state.DecodeTarget(body)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(target, back); d != "" {
		t.Errorf("Target (-written +read):\n%s", d)
	}
}

// A copy of an empty document can be merged into.
func TestCopyOfAnEmptyDocument(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	if d := diff(n, n.Copy()); d != "" {
		t.Error(d)
	}
}
