// What Modal's own Go SDK does in an ordinary day, told as one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	modal "github.com/modal-labs/modal-client/go"
)

// Prints "up", and answers one connection with what it said, turned round.
const server = `
import socket
with socket.create_server(("127.0.0.1", 9000)) as s:
    print("up", flush=True)
    with s.accept()[0] as c:
        c.sendall(c.recv(100)[::-1])
`

var ctx, _ = context.WithTimeout(context.Background(), 50*time.Second)

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func text(stream io.Reader) string {
	return string(must(io.ReadAll(stream)))
}

type said map[string]any

func main() {
	out := said{}
	client := must(modal.NewClient())
	defer client.Close()
	app := must(client.Apps.FromName(ctx, "witness", &modal.AppFromNameParams{CreateIfMissing: true}))
	image := client.Images.FromRegistry("debian:bookworm", nil)
	tags := map[string]string{"pool": "w1", "host": "here"}
	box := must(client.Sandboxes.Create(ctx, app, image, &modal.SandboxCreateParams{
		Timeout: 2 * time.Minute, Tags: tags, Env: map[string]string{"FLAVOUR": "mint"}, UnencryptedPorts: []int{9000},
	}))
	out["sandbox"] = box.SandboxID
	out.execs(box)
	out.files(box)
	out.tunnel(box)
	out["polled"] = must(box.Poll(ctx, nil))

	list := func(tags map[string]string) []string {
		ids := []string{}
		for found, err := range must(all(client)(ctx, app.AppID, tags)) {
			check(err)
			ids = append(ids, found.SandboxID)
		}
		return ids
	}
	out["listed"] = list(tags)
	out["other"] = list(map[string]string{"pool": "w2"})
	check(box.SetTags(ctx, map[string]string{"pool": "w2"}, nil))
	out["tags"] = must(box.GetTags(ctx, nil))
	out["moved"] = list(map[string]string{"pool": "w2"})

	snapshot := must(box.SnapshotFilesystem(ctx, nil))
	must(box.Terminate(ctx, nil))
	out["after"] = list(nil)
	out.restored(client, app, snapshot)

	_, err := client.Sandboxes.Create(ctx, app, client.Images.FromRegistry("unknown/image", nil), nil)
	out["unknown"] = fmt.Sprint(err)
	check(json.NewEncoder(os.Stdout).Encode(out))
}

// The list that shows the sandboxes of the kind that is made.
func all(client *modal.Client) func(context.Context, string, map[string]string) (seq, error) {
	return func(ctx context.Context, app string, tags map[string]string) (seq, error) {
		if os.Getenv("MODAL_SANDBOX_V2") == "0" {
			found, err := client.Sandboxes.List(ctx, &modal.SandboxListParams{AppID: app, Tags: tags})
			return seq(found), err
		}
		found, err := client.Sandboxes.ExperimentalList(ctx, &modal.SandboxExperimentalListParams{AppID: app, Tags: tags})
		return seq(found), err
	}
}

type seq func(func(*modal.Sandbox, error) bool)

func (out said) execs(box *modal.Sandbox) {
	run := func(params *modal.SandboxExecParams, command ...string) *modal.ContainerProcess {
		return must(box.Exec(ctx, command, params))
	}
	p := run(nil, "bash", "-c", "echo out; echo err >&2; echo $FLAVOUR; exit 7")
	out["stdout"], out["stderr"], out["code"] = text(p.Stdout), text(p.Stderr), must(p.Wait(ctx, nil))

	p = run(nil, "cat")
	for i := range 3 {
		must(fmt.Fprintf(p.Stdin, "line %d\n", i))
	}
	check(p.Stdin.Close())
	out["echoed"], out["echoed_code"] = text(p.Stdout), must(p.Wait(ctx, nil))

	p = run(nil, "head", "-c", "3000000", "/dev/zero")
	out["zeros"] = len(text(p.Stdout))
	must(p.Wait(ctx, nil))
	out["signal"] = must(run(nil, "bash", "-c", "kill -9 $$").Wait(ctx, nil))
	out["workdir"] = text(run(&modal.SandboxExecParams{Workdir: "/tmp"}, "pwd").Stdout)
	p = run(&modal.SandboxExecParams{PTY: true}, "bash", "-c", "tty >/dev/null && stty size >&2")
	out["terminal"] = text(p.Stdout)
	must(p.Wait(ctx, nil))
}

func (out said) files(box *modal.Sandbox) {
	files := box.Filesystem
	data := strings.Repeat("0123456789", 100_000)
	check(files.WriteText(ctx, data, "/root/d/file", nil))
	out["file"] = must(files.ReadText(ctx, "/root/d/file", nil)) == data
	out["size"] = must(files.Stat(ctx, "/root/d/file", nil)).Size
	check(files.MakeDirectory(ctx, "/root/d/sub", nil))
	names := []string{}
	for _, entry := range must(files.ListFiles(ctx, "/root/d", nil)) {
		names = append(names, entry.Name)
	}
	out["files"] = names
	check(files.Remove(ctx, "/root/d/sub", nil))
	_, err := files.ReadText(ctx, "/root/none", nil)
	out["missing"] = fmt.Sprintf("%T", err)
}

func (out said) tunnel(box *modal.Sandbox) {
	p := must(box.Exec(ctx, []string{"python3", "-c", server}, nil))
	must(io.ReadFull(p.Stdout, make([]byte, 3)))
	host, port, err := must(box.Tunnels(ctx, 10*time.Second, nil))[9000].TCPSocket()
	check(err)
	connection := must(net.Dial("tcp", fmt.Sprintf("%s:%d", host, port)))
	must(connection.Write([]byte("abc")))
	out["tunnelled"] = text(connection)
	must(p.Wait(ctx, nil))
}

func (out said) restored(client *modal.Client, app *modal.App, image *modal.Image) {
	box := must(client.Sandboxes.Create(ctx, app, image, nil))
	out["restored"] = must(box.Filesystem.Stat(ctx, "/root/d/file", nil)).Size
	must(box.Terminate(ctx, nil))
}
