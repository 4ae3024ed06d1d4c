// SPDX-License-Identifier: MIT

// A peer: Modal's Go SDK. It does what bench.py asks for, line by line; see there.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	modal "github.com/modal-labs/modal-client/go"
)

type request struct {
	n       int // jobs in each sandbox
	at      int // sandboxes at once
	size    int64
	command string
}

// jobs N AT SIZE COMMAND
func parse(line string) (q request) {
	words := strings.SplitN(line, " ", 5)
	q.n, q.at = must(strconv.Atoi(words[1])), must(strconv.Atoi(words[2]))
	q.size, q.command = must(strconv.ParseInt(words[3], 10, 64)), words[4]
	return q
}

var (
	ctx       = context.Background()
	client    *modal.Client
	app       *modal.App
	image     *modal.Image
	sandboxes []*modal.Sandbox
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func cpu() int64 {
	var u syscall.Rusage
	must(0, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

func prepare(n int) {
	for len(sandboxes) < n {
		sandboxes = append(sandboxes, must(client.Sandboxes.Create(ctx, app, image, nil)))
	}
}

// One job: all its output and its exit code, asked for at once.
func job(sandbox *modal.Sandbox, command string, size int64) {
	process := must(sandbox.Exec(ctx, []string{"bash", "-c", command}, nil))
	var stderr int64
	var code int
	var group sync.WaitGroup
	group.Add(2)
	go func() { defer group.Done(); stderr = must(io.Copy(io.Discard, process.Stderr)) }()
	go func() { defer group.Done(); code = must(process.Wait(ctx, nil)) }()
	stdout := must(io.Copy(io.Discard, process.Stdout))
	group.Wait()
	if stdout != size || stderr != 0 || code != 0 {
		log.Fatalf("%s: %d and %d bytes, exit code %d", command, stdout, stderr, code)
	}
}

func answer(q request) map[string]any {
	prepare(q.at)
	began, used := time.Now(), cpu()
	ns := []int64{}
	if q.at > 1 {
		var group sync.WaitGroup
		for _, s := range sandboxes[:q.at] {
			group.Add(1)
			go func() {
				defer group.Done()
				for range q.n {
					job(s, q.command, q.size)
				}
			}()
		}
		group.Wait()
	} else {
		for range q.n {
			start := time.Now()
			job(sandboxes[0], q.command, q.size)
			ns = append(ns, time.Since(start).Nanoseconds())
		}
	}
	return map[string]any{"ns": ns, "wall_ns": time.Since(began).Nanoseconds(), "cpu_ns": cpu() - used}
}

func say(what any) {
	fmt.Println(string(must(json.Marshal(what))))
}

func main() {
	client = must(modal.NewClient())
	app = must(client.Apps.FromName(ctx, "bench", &modal.AppFromNameParams{CreateIfMissing: true}))
	image = client.Images.FromRegistry("debian:12-slim", nil)
	prepare(1)
	job(sandboxes[0], "true", 0)
	say(map[string]any{"ready": true})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		say(answer(parse(lines.Text())))
	}
	for _, s := range sandboxes {
		must(s.Terminate(ctx, nil))
	}
}
