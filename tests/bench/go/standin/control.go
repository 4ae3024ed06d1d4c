// SPDX-License-Identifier: MIT
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	pb "github.com/modal-labs/modal-client/go/proto/modal_proto"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const builderVersion = "2025.06"

// What one server knows.
type world struct {
	url   string
	token string // the same for all: nobody is kept out

	mu        sync.Mutex
	made      int
	sandboxes map[string]*sandbox // by id
	tasks     map[string]*sandbox // by task id
	execs     map[string]*exec
	order     []string      // ids of execs, oldest first
	execDelay time.Duration // before an exec has started
}

type sandbox struct {
	id, task string
	ended    chan struct{}
	once     sync.Once
	helper   helper
}

func newWorld(url string, execDelay time.Duration) *world {
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":"bench","exp":%d}`, time.Now().Add(12*time.Hour).Unix())
	return &world{
		url:       url,
		execDelay: execDelay,
		token:     encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte("none")),
		sandboxes: map[string]*sandbox{},
		tasks:     map[string]*sandbox{},
		execs:     map[string]*exec{},
	}
}

// The form of an id tells clients the kind of its sandbox.
const (
	idV1 = "sb-%022d"
	idV2 = "sb-v2-%d"
)

func (w *world) newSandbox(id string) *sandbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made++
	s := &sandbox{id: fmt.Sprintf(id, w.made), task: fmt.Sprintf("ta-%d", w.made), ended: make(chan struct{})}
	s.helper.jobs = map[[jobIDSize]byte]*job{}
	w.sandboxes[s.id] = s
	w.tasks[s.task] = s
	return s
}

func (w *world) find(id string) (*sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.sandboxes[id]; s != nil {
		return s, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no sandbox %q", id)
}

type control struct {
	pb.UnimplementedModalClientServer
	world *world
}

func (c *control) ClientHello(context.Context, *emptypb.Empty) (*pb.ClientHelloResponse, error) {
	return pb.ClientHelloResponse_builder{ImageBuilderVersion: builderVersion}.Build(), nil
}

func (c *control) AuthTokenGet(context.Context, *pb.AuthTokenGetRequest) (*pb.AuthTokenGetResponse, error) {
	return pb.AuthTokenGetResponse_builder{Token: c.world.token}.Build(), nil
}

func (c *control) EnvironmentGetOrCreate(context.Context, *pb.EnvironmentGetOrCreateRequest) (*pb.EnvironmentGetOrCreateResponse, error) {
	return pb.EnvironmentGetOrCreateResponse_builder{
		EnvironmentId: "en-1",
		Metadata: pb.EnvironmentMetadata_builder{
			Name:     "main",
			Settings: pb.EnvironmentSettings_builder{ImageBuilderVersion: builderVersion}.Build(),
		}.Build(),
	}.Build(), nil
}

func (c *control) AppGetOrCreate(context.Context, *pb.AppGetOrCreateRequest) (*pb.AppGetOrCreateResponse, error) {
	return pb.AppGetOrCreateResponse_builder{AppId: "ap-1"}.Build(), nil
}

func built() *pb.GenericResult {
	return pb.GenericResult_builder{Status: pb.GenericResult_GENERIC_STATUS_SUCCESS}.Build()
}

func (c *control) ImageGetOrCreate(context.Context, *pb.ImageGetOrCreateRequest) (*pb.ImageGetOrCreateResponse, error) {
	return pb.ImageGetOrCreateResponse_builder{ImageId: "im-1", Result: built()}.Build(), nil
}

func (c *control) SandboxCreate(context.Context, *pb.SandboxCreateRequest) (*pb.SandboxCreateResponse, error) {
	return pb.SandboxCreateResponse_builder{SandboxId: c.world.newSandbox(idV1).id}.Build(), nil
}

func (c *control) SandboxCreateV2(context.Context, *pb.SandboxCreateV2Request) (*pb.SandboxCreateV2Response, error) {
	s := c.world.newSandbox(idV2)
	access := pb.CommandRouterAccess_builder{Jwt: c.world.token, Url: c.world.url}.Build()
	return pb.SandboxCreateV2Response_builder{SandboxId: s.id, TaskId: s.task, CommandRouterAccess: access}.Build(), nil
}

func (c *control) SandboxGetTaskId(_ context.Context, r *pb.SandboxGetTaskIdRequest) (*pb.SandboxGetTaskIdResponse, error) {
	s, err := c.world.find(r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	return pb.SandboxGetTaskIdResponse_builder{TaskId: &s.task}.Build(), nil
}

func (c *control) TaskGetCommandRouterAccess(context.Context, *pb.TaskGetCommandRouterAccessRequest) (*pb.TaskGetCommandRouterAccessResponse, error) {
	return pb.TaskGetCommandRouterAccessResponse_builder{Jwt: c.world.token, Url: c.world.url}.Build(), nil
}

func (c *control) SandboxGetCommandRouterAccess(context.Context, *pb.SandboxGetCommandRouterAccessRequest) (*pb.SandboxGetCommandRouterAccessResponse, error) {
	return pb.SandboxGetCommandRouterAccessResponse_builder{Jwt: c.world.token, Url: c.world.url}.Build(), nil
}

func (c *control) SandboxWait(ctx context.Context, r *pb.SandboxWaitRequest) (*pb.SandboxWaitResponse, error) {
	s, err := c.world.find(r.GetSandboxId())
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(time.Duration(float64(r.GetTimeout()) * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-s.ended:
		result := pb.GenericResult_builder{Status: pb.GenericResult_GENERIC_STATUS_TERMINATED}.Build()
		return pb.SandboxWaitResponse_builder{Result: result}.Build(), nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return &pb.SandboxWaitResponse{}, nil
}

func (c *control) SandboxWaitV2(ctx context.Context, r *pb.SandboxWaitRequest) (*pb.SandboxWaitResponse, error) {
	return c.SandboxWait(ctx, r)
}

func (c *control) SandboxList(context.Context, *pb.SandboxListRequest) (*pb.SandboxListResponse, error) {
	return &pb.SandboxListResponse{}, nil
}

func (c *control) SandboxListV2(ctx context.Context, r *pb.SandboxListRequest) (*pb.SandboxListResponse, error) {
	return c.SandboxList(ctx, r)
}

func (c *control) SandboxTagsSet(context.Context, *pb.SandboxTagsSetRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (w *world) terminate(id string) error {
	s, err := w.find(id)
	if err != nil {
		return err
	}
	s.once.Do(func() { close(s.ended) })
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sandboxes, s.id)
	delete(w.tasks, s.task)
	return nil
}

func (c *control) SandboxTerminate(_ context.Context, r *pb.SandboxTerminateRequest) (*pb.SandboxTerminateResponse, error) {
	return &pb.SandboxTerminateResponse{}, c.world.terminate(r.GetSandboxId())
}

func (c *control) SandboxTerminateV2(ctx context.Context, r *pb.SandboxTerminateRequest) (*pb.SandboxTerminateResponse, error) {
	return c.SandboxTerminate(ctx, r)
}
