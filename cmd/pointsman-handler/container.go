package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/pointsman/pointsman/azure/blob"
)

// ensured is a container that is created on first use, so that the function app also starts while the storage account is away.
type ensured struct {
	store *blob.Store

	mu   sync.Mutex
	done bool
}

func (e *ensured) ready(ctx context.Context) (*blob.Store, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.done {
		if err := e.store.Ensure(ctx); err != nil {
			return nil, fmt.Errorf("state store: %w", err)
		}
		e.done = true
	}
	return e.store, nil
}

// Read implements documents.Blobs.
func (e *ensured) Read(ctx context.Context, name, known string) (data []byte, etag string, err error) {
	s, err := e.ready(ctx)
	if err != nil {
		return nil, "", err
	}
	return s.Read(ctx, name, known)
}

// Write implements documents.Blobs.
func (e *ensured) Write(ctx context.Context, name string, data []byte, ifMatch string) (etag string, err error) {
	s, err := e.ready(ctx)
	if err != nil {
		return "", err
	}
	return s.Write(ctx, name, data, ifMatch)
}

// List implements documents.Blobs and ingest.Shelf.
func (e *ensured) List(ctx context.Context, prefix string) ([]string, error) {
	s, err := e.ready(ctx)
	if err != nil {
		return nil, err
	}
	return s.List(ctx, prefix)
}

// Append implements documents.Blobs.
func (e *ensured) Append(ctx context.Context, name string, line []byte) error {
	s, err := e.ready(ctx)
	if err != nil {
		return err
	}
	return s.Append(ctx, name, line)
}

// Delete implements documents.Files.
func (e *ensured) Delete(ctx context.Context, name string) error {
	s, err := e.ready(ctx)
	if err != nil {
		return err
	}
	return s.Delete(ctx, name)
}

// Put implements ingest.Shelf.
func (e *ensured) Put(ctx context.Context, name string, data []byte) error {
	s, err := e.ready(ctx)
	if err != nil {
		return err
	}
	return s.Put(ctx, name, data)
}
