package outbox

import (
	"context"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/state"
)

// Beliefs is where the documents of what was told of NVAs are.
type Beliefs interface {
	Beliefs(ctx context.Context, domain string) (doc *state.Beliefs, etag string, err error)
	SaveBeliefs(ctx context.Context, doc *state.Beliefs, etag string) (newETag string, err error)
}

// OfBeliefs is the outbox of what is told of a domain's NVAs.
func OfBeliefs(store Beliefs, domain string) Box {
	return Box{
		About: "nvas of " + domain,
		Read: func(ctx context.Context) (*outcome.Outbox, func(context.Context) error, error) {
			doc, etag, err := store.Beliefs(ctx, domain)
			if err != nil {
				return nil, nil, err
			}
			return &doc.Outcomes, func(ctx context.Context) error {
				_, failed := store.SaveBeliefs(ctx, doc, etag)
				return failed
			}, nil
		},
	}
}

// Targets is where the targets' documents are.
type Targets interface {
	Target(ctx context.Context, domain string, t config.Target) (doc *state.Target, etag string, err error)
	SaveTarget(ctx context.Context, doc *state.Target, etag string) (newETag string, err error)
}

// OfTarget is the outbox of a target's document.
func OfTarget(store Targets, domain string, t config.Target) Box {
	return Box{
		About: "target " + domain + "/" + t.Name,
		Read: func(ctx context.Context) (*outcome.Outbox, func(context.Context) error, error) {
			doc, etag, err := store.Target(ctx, domain, t)
			if err != nil {
				return nil, nil, err
			}
			return &doc.Outcomes, func(ctx context.Context) error {
				_, failed := store.SaveTarget(ctx, doc, etag)
				return failed
			}, nil
		},
	}
}
