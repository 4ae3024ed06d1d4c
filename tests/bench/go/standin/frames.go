// SPDX-License-Identifier: MIT
package main

import (
	"encoding/binary"
	"errors"
)

// The frames of pool/helper/protocol.h that jobs need; the layout of each is in pool/helper/protocol.c.
const (
	frameHello   = 1
	frameStart   = 2
	frameInput   = 4
	frameAck     = 5
	frameSignal  = 6
	frameKill    = 7
	frameResize  = 8
	frameForget  = 9
	frameRequest = 10
	frameWelcome = 11
	frameStale   = 12
	frameJob     = 13
	frameOutput  = 14
	frameEnded   = 15
	frameReply   = 16
	frameError   = 18
)

const (
	frameHead    = 4
	frameDataMax = 16 << 10 // HELPER_DATA_MAX
	outputMax    = 8 << 10  // bytes in one frame of output: a chunk of the helper's store
	frameMax     = frameHead + 104 + frameDataMax
	keySize      = 16
	jobIDSize    = 16
	requestClean = 1 // HELPER_CLEAN
	jobRunning   = 2 // HELPER_JOB_RUNNING
	endExit      = 0 // HELPER_END_EXIT
	endSignal    = 1 // HELPER_END_SIGNAL
	sigkill      = 9
)

var errFrame = errors.New("not a frame that is understood here")

// The fields of a frame that came, in order; what is left behind them is its data. A short one gives zeros and is bad.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if len(f.rest) < n {
		f.bad = true
		return make([]byte, n)
	}
	found := f.rest[:n]
	f.rest = f.rest[n:]
	return found
}

func (f *fields) u8() uint8   { return f.take(1)[0] }
func (f *fields) u32() uint32 { return binary.LittleEndian.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }

// A frame of numbers of fixed size and of bytes, put behind what is in @to.
func appendFrame(to []byte, kind uint8, parts ...any) []byte {
	start := len(to)
	to = append(to, 0, 0, 0, kind)
	for _, part := range parts {
		switch v := part.(type) {
		case uint8:
			to = append(to, v)
		case uint32:
			to = binary.LittleEndian.AppendUint32(to, v)
		case uint64:
			to = binary.LittleEndian.AppendUint64(to, v)
		case string:
			to = append(to, v...)
		case []byte:
			to = append(to, v...)
		default:
			panic("a part of a frame is neither a number nor bytes")
		}
	}
	n := len(to) - start - frameHead
	to[start], to[start+1], to[start+2] = byte(n), byte(n>>8), byte(n>>16)
	return to
}

// Takes the first whole frame off @in; nil fields where there is none.
func nextFrame(in *[]byte) (kind uint8, body *fields, err error) {
	b := *in
	if len(b) < frameHead {
		return 0, nil, nil
	}
	n := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	if n > frameMax-frameHead {
		return 0, nil, errFrame
	}
	if len(b) < frameHead+n {
		return 0, nil, nil
	}
	*in = b[frameHead+n:]
	return b[3], &fields{rest: b[frameHead : frameHead+n]}, nil
}
