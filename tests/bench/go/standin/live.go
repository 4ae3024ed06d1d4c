// SPDX-License-Identifier: MIT
package main

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A program that reads its input as it comes. It is called under the lock of its exec.
type program interface {
	take(data []byte) error // of standard input
	end() error             // of that
	give() []byte           // the next bytes of standard output, at most a message of them; none: not now
}

// An exec of such a program. What was read of its output is not kept.
type live struct {
	mu      sync.Mutex
	program program
	taken   uint64 // bytes of input
	given   uint64 // and of output
	ready   chan struct{}
	ended   chan struct{}
	once    sync.Once
}

func newLive(p program) *live {
	return &live{program: p, ready: make(chan struct{}, 1), ended: make(chan struct{})}
}

// There may be more output.
func (l *live) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

func (l *live) finish() {
	l.once.Do(func() { close(l.ended) })
}

// Bytes that came before are passed over. A program that cannot go on ends.
func (l *live) write(offset uint64, data []byte, end bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset > l.taken {
		return status.Errorf(codes.InvalidArgument, "input at %d, of which %d bytes are here", offset, l.taken)
	}
	data = data[min(l.taken-offset, uint64(len(data))):]
	l.taken += uint64(len(data))
	err := l.program.take(data)
	if err == nil && end {
		err = l.program.end()
	}
	if err != nil || end {
		l.finish()
	}
	l.wake()
	return nil
}

func (l *live) next(offset uint64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset != l.given {
		return nil, status.Errorf(codes.OutOfRange, "output from %d is wanted, and that before %d was not kept", offset, l.given)
	}
	data := l.program.give()
	l.given += uint64(len(data))
	return data, nil
}

func (l *live) read(ctx context.Context, offset uint64, send func([]byte) error) error {
	for {
		data, err := l.next(offset)
		if err != nil {
			return err
		}
		offset += uint64(len(data))
		if len(data) > 0 {
			if err := send(data); err != nil {
				return err
			}
			continue
		}
		select {
		case <-l.ready:
		case <-l.ended:
			return nil
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (l *live) hasEnded() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func (l *live) wait(ctx context.Context) error {
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
