// SPDX-License-Identifier: MIT
package main

import (
	"context"
	"path"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
)

// Numbers by method.
type byMethod struct {
	methods sync.Map // full name -> *atomic.Int64
}

func (b *byMethod) add(method string, n int64) {
	have, ok := b.methods.Load(method)
	if !ok {
		have, _ = b.methods.LoadOrStore(method, &atomic.Int64{})
	}
	have.(*atomic.Int64).Add(n)
}

func (b *byMethod) take() map[string]int64 {
	found := map[string]int64{}
	b.methods.Range(func(method, n any) bool {
		found[path.Base(method.(string))] = n.(*atomic.Int64).Load()
		return true
	})
	return found
}

type counters struct {
	calls byMethod // since the start
	open  byMethod // streams that are open
}

func (c *counters) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c.calls.add(info.FullMethod, 1)
	return next(ctx, request)
}

func (c *counters) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	c.calls.add(info.FullMethod, 1)
	c.open.add(info.FullMethod, 1)
	defer c.open.add(info.FullMethod, -1)
	return next(server, stream)
}
