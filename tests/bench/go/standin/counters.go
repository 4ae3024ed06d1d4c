// SPDX-License-Identifier: MIT
package main

import (
	"context"
	"path"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
)

// Calls by method, since the start.
type counters struct {
	methods sync.Map // full name -> *atomic.Int64
}

func (c *counters) count(method string) {
	n, ok := c.methods.Load(method)
	if !ok {
		n, _ = c.methods.LoadOrStore(method, &atomic.Int64{})
	}
	n.(*atomic.Int64).Add(1)
}

func (c *counters) take() map[string]int64 {
	found := map[string]int64{}
	c.methods.Range(func(method, n any) bool {
		found[path.Base(method.(string))] = n.(*atomic.Int64).Load()
		return true
	})
	return found
}

func (c *counters) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c.count(info.FullMethod)
	return next(ctx, request)
}

func (c *counters) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	c.count(info.FullMethod)
	return next(server, stream)
}
