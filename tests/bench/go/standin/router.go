// SPDX-License-Identifier: MIT
package main

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"time"

	pb "github.com/modal-labs/modal-client/go/proto/modal_proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	messageSize = 256 << 10 // of output, as the simulator's
	execsKept   = 100000
)

// An exec has ended when it has started: all that is left of it is what it printed, and how many zeros after that. But
// for those of modalpool's helper, which live.
type exec struct {
	text string
	size uint64
	live *live
}

type router struct {
	pb.UnimplementedTaskCommandRouterServer
	world *world
}

// Also behind another shell's arguments: modalpool's wrapper gets the command as its last one.
var printing = regexp.MustCompile(`^=?head -c (\d+) /dev/zero$`)

// What runs until it is killed, as a job of the helper.
var sleeping = regexp.MustCompile(`^=?sleep `)

// modalpool's first command in a sandbox, which names itself as a process; see script_make_probe().
var probing = regexp.MustCompile(`</proc/\$\$/stat`)

const probed = "1:1\n"

var zeros = make([]byte, messageSize)

func (r *router) TaskExecStart(_ context.Context, q *pb.TaskExecStartRequest) (*pb.TaskExecStartResponse, error) {
	args, e := q.GetCommandArgs(), &exec{}
	if len(args) == 0 {
		return nil, status.Error(codes.InvalidArgument, "command_args is empty")
	}
	if m := printing.FindStringSubmatch(args[len(args)-1]); m != nil {
		e.size, _ = strconv.ParseUint(m[1], 10, 64)
	} else if slices.ContainsFunc(args, probing.MatchString) {
		e.text = probed
	}
	w := r.world
	time.Sleep(w.execDelay)
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.tasks[q.GetTaskId()]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "task %q is not running here", q.GetTaskId())
	}
	if w.execs[q.GetExecId()] != nil {
		return &pb.TaskExecStartResponse{}, nil
	}
	if slices.ContainsFunc(args, uploading.MatchString) {
		e.live = newLive(&upload{helper: &s.helper})
	} else if slices.ContainsFunc(args, attaching.MatchString) {
		e.live = newCarrier(&s.helper)
	}
	w.execs[q.GetExecId()] = e
	w.order = append(w.order, q.GetExecId())
	if len(w.order) > execsKept {
		delete(w.execs, w.order[0])
		w.order = w.order[1:]
	}
	return &pb.TaskExecStartResponse{}, nil
}

func (w *world) exec(id string) (*exec, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.execs[id]; e != nil {
		return e, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no exec %q", id)
}

func (r *router) TaskExecStdioRead(q *pb.TaskExecStdioReadRequest, stream grpc.ServerStreamingServer[pb.TaskExecStdioReadResponse]) error {
	e, err := r.world.exec(q.GetExecId())
	if err != nil || q.GetFileDescriptor() != pb.TaskExecStdioFileDescriptor_TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT {
		return err
	}
	if e.live != nil {
		return e.live.read(stream.Context(), q.GetOffset(), func(data []byte) error {
			return stream.Send(pb.TaskExecStdioReadResponse_builder{Data: data}.Build())
		})
	}
	if e.text != "" {
		return stream.Send(pb.TaskExecStdioReadResponse_builder{Data: []byte(e.text[min(q.GetOffset(), uint64(len(e.text))):])}.Build())
	}
	for at := q.GetOffset(); at < e.size; at += messageSize {
		n := min(e.size-at, messageSize)
		if err := stream.Send(pb.TaskExecStdioReadResponse_builder{Data: zeros[:n]}.Build()); err != nil {
			return err
		}
	}
	return nil
}

func (r *router) TaskExecWait(ctx context.Context, q *pb.TaskExecWaitRequest) (*pb.TaskExecWaitResponse, error) {
	e, err := r.world.exec(q.GetExecId())
	if err == nil && e.live != nil {
		err = e.live.wait(ctx)
	}
	if err != nil {
		return nil, err
	}
	code := int32(0)
	return pb.TaskExecWaitResponse_builder{Code: &code}.Build(), nil
}

func (r *router) TaskExecPoll(_ context.Context, q *pb.TaskExecPollRequest) (*pb.TaskExecPollResponse, error) {
	e, err := r.world.exec(q.GetExecId())
	if err != nil {
		return nil, err
	}
	if e.live != nil && !e.live.hasEnded() {
		return &pb.TaskExecPollResponse{}, nil
	}
	code := int32(0)
	return pb.TaskExecPollResponse_builder{Code: &code}.Build(), nil
}

func (r *router) TaskExecStdinWrite(_ context.Context, q *pb.TaskExecStdinWriteRequest) (*pb.TaskExecStdinWriteResponse, error) {
	e, err := r.world.exec(q.GetExecId())
	if err == nil && (e.live == nil || e.live.hasEnded()) {
		err = status.Error(codes.FailedPrecondition, "nobody reads that any more")
	}
	if err == nil {
		err = e.live.write(q.GetOffset(), q.GetData(), q.GetEof())
	}
	if err != nil {
		return nil, err
	}
	return &pb.TaskExecStdinWriteResponse{}, nil
}
