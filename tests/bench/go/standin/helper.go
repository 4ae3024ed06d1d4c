// SPDX-License-Identifier: MIT
package main

import (
	"bytes"
	"regexp"
	"strconv"
	"sync"
)

// modalpool's helper in one sandbox, as far as jobs need it. It speaks the frames of pool/helper/protocol.h and runs
// nothing: a job is answered with what it would print, like every other exec here. One that sleeps runs until it is killed.
type helper struct {
	mu      sync.Mutex
	key     [keySize]byte
	present *carrier
	jobs    map[[jobIDSize]byte]*job
}

type job struct {
	id          [jobIDSize]byte
	size        uint64 // bytes that it prints
	sent, acked uint64 // of these
	window      uint64 // that may be on the way
	sleeps      bool   // it runs on
	signal      uint32 // that ended it, or 0
	ended       bool   // the daemon was told
}

// What modalpool runs to put the helper there (pool/helper/upload.c): its input is so many bytes of program, then the key.
var uploading = regexp.MustCompile(`dd bs=(\d+) count=1 iflag=fullblock of=\$d/helper`)

// And to open a stream to it.
var attaching = regexp.MustCompile(`exec \$d/helper attach`)

type upload struct {
	helper *helper
	last   []byte // as much as is the key
}

func (u *upload) take(data []byte) error {
	u.last = append(u.last, data[max(0, len(data)-keySize):]...)
	u.last = u.last[max(0, len(u.last)-keySize):]
	return nil
}

func (u *upload) end() error {
	u.helper.mu.Lock()
	defer u.helper.mu.Unlock()
	copy(u.helper.key[:], u.last)
	return nil
}

func (u *upload) give() []byte {
	return nil
}

// A carrier: one exec of `attach`.
type carrier struct {
	helper *helper
	live   *live
	in     []byte   // the beginning of a frame
	out    [][]byte // messages to be sent
	output []byte   // the last one of output: it is read no more when the next is wanted
	epoch  uint64
	number uint64
}

func newCarrier(h *helper) *live {
	c := &carrier{helper: h}
	c.live = newLive(c)
	return c.live
}

func (c *carrier) say(kind uint8, parts ...any) {
	c.out = append(c.out, appendFrame(nil, kind, parts...))
}

func (c *carrier) take(data []byte) error {
	c.helper.mu.Lock()
	defer c.helper.mu.Unlock()
	c.in = append(c.in, data...)
	for {
		kind, f, err := nextFrame(&c.in)
		if err == nil && f == nil {
			return nil
		}
		if err == nil {
			err = c.handle(kind, f)
		}
		if err == nil && f.bad {
			err = errFrame
		}
		if err != nil {
			c.say(frameError, err.Error())
			return err
		}
	}
}

func (c *carrier) end() error {
	return nil
}

func (c *carrier) handle(kind uint8, f *fields) error {
	h := c.helper
	if kind == frameHello {
		return c.hello(f)
	}
	if h.present != c {
		return errFrame
	}
	switch kind {
	case frameRequest:
		request, what := f.u64(), f.u8()
		if what == requestClean {
			clear(h.jobs)
		}
		c.say(frameReply, request, what, uint32(0))
		return nil
	case frameStart, frameAck, frameForget, frameInput, frameSignal, frameKill, frameResize:
		id := [jobIDSize]byte(f.take(jobIDSize))
		return c.handleJob(kind, id, f)
	}
	return errFrame
}

func (c *carrier) hello(f *fields) error {
	h := c.helper
	version, _ := f.u32(), f.u32()
	key := f.take(keySize)
	c.epoch, c.number = f.u64(), f.u64()
	if !bytes.Equal(key, h.key[:]) {
		return errFrame
	}
	if p := h.present; p != nil {
		if c.epoch < p.epoch || c.epoch == p.epoch && c.number <= p.number {
			c.say(frameStale, p.epoch, p.number)
			return nil
		}
		p.live.finish()
	}
	h.present = c
	c.say(frameWelcome, version, c.epoch, c.number, uint32(len(h.jobs)))
	for _, j := range h.jobs {
		j.sent, j.ended = j.acked, false
		c.sayJob(j)
	}
	return nil
}

func (c *carrier) sayJob(j *job) {
	c.say(frameJob, j.id[:], uint8(jobRunning), uint32(0), uint64(0), uint64(0), uint32(0), uint8(0))
}

func (c *carrier) handleJob(kind uint8, id [jobIDSize]byte, f *fields) error {
	jobs := c.helper.jobs
	j := jobs[id]
	switch {
	case kind == frameStart && j == nil:
		return c.start(id, f)
	case kind == frameStart:
		c.sayJob(j)
	case kind == frameForget:
		delete(jobs, id)
	case kind == frameKill && j != nil && j.sleeps:
		j.sleeps, j.signal = false, sigkill
	case kind == frameAck && j != nil:
		j.acked, _, j.window = f.u64(), f.u64(), uint64(f.u32())
		j.sent = max(j.sent, j.acked) // over a new carrier it begins with what an old ACK had said
	}
	return nil // nothing here has input, and what does not sleep has ended before a signal comes
}

func (c *carrier) start(id [jobIDSize]byte, f *fields) error {
	f.take(1 + 2 + 2 + 8 + 8) // flags, terminal, times
	j := &job{id: id, window: uint64(f.u32())}
	_, length := f.u32(), f.u32()
	if int(length) != len(f.rest) || length == 0 {
		return errFrame // a longer one comes in parts, which no job of a benchmark needs
	}
	strings := f.rest[:length-1] // without the last NUL
	command := strings[bytes.LastIndexByte(strings, 0)+1:]
	if m := printing.FindSubmatch(command); m != nil {
		j.size, _ = strconv.ParseUint(string(m[1]), 10, 64)
	}
	j.sleeps = sleeping.Match(command)
	c.helper.jobs[id] = j
	c.sayJob(j)
	return nil
}

func (c *carrier) give() []byte {
	c.helper.mu.Lock()
	defer c.helper.mu.Unlock()
	if len(c.out) > 0 {
		message := c.out[0]
		c.out = c.out[1:]
		return message
	}
	if c.helper.present != c {
		return nil
	}
	c.output = c.output[:0]
	for _, j := range c.helper.jobs {
		c.output = j.give(c.output)
	}
	return c.output
}

func (j *job) give(message []byte) []byte {
	for j.sent < j.size && j.sent-j.acked < j.window && len(message) < messageSize {
		n := min(j.size-j.sent, j.window-(j.sent-j.acked), outputMax)
		message = appendFrame(message, frameOutput, j.id[:], uint8(0), j.sent, zeros[:n])
		j.sent += n
	}
	if j.sent == j.size && !j.sleeps && !j.ended {
		how := uint8(endExit)
		if j.signal != 0 {
			how = endSignal
		}
		message = appendFrame(message, frameEnded, j.id[:], how, j.signal, uint64(0), j.size, uint64(0))
		j.ended = true
	}
	return message
}
