// SPDX-License-Identifier: MIT
package main

import (
	"io"
	"net"
	"time"
)

const (
	chunkSize = 64 << 10
	onTheWay  = 4096 // chunks: far more than a window of HTTP/2 lets through
)

// A listener whose connections are so far away.
type delayListener struct {
	net.Listener
	delay time.Duration
}

func (l delayListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || l.delay == 0 {
		return conn, err
	}
	d := &delayed{Conn: conn, delay: l.delay, in: make(chan parcel, onTheWay), out: make(chan parcel, onTheWay),
		closed: make(chan struct{})}
	go d.receive()
	go d.send()
	return d, nil
}

// Bytes and when they arrive; no bytes with an error is the end.
type parcel struct {
	data []byte
	due  time.Time
	err  error
}

type delayed struct {
	net.Conn
	delay   time.Duration
	in, out chan parcel
	rest    []byte // of what has arrived
	closed  chan struct{}
}

func (d *delayed) receive() {
	for {
		data := make([]byte, chunkSize)
		n, err := d.Conn.Read(data)
		p := parcel{data[:n], time.Now().Add(d.delay), err}
		select {
		case d.in <- p:
		case <-d.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

func (d *delayed) send() {
	for {
		select {
		case p := <-d.out:
			time.Sleep(time.Until(p.due))
			if _, err := d.Conn.Write(p.data); err != nil {
				d.Conn.Close()
				return
			}
		case <-d.closed:
			return
		}
	}
}

func (d *delayed) Read(into []byte) (int, error) {
	if len(d.rest) == 0 {
		select {
		case p := <-d.in:
			time.Sleep(time.Until(p.due))
			if p.err != nil && len(p.data) == 0 {
				return 0, p.err
			}
			d.rest = p.data
		case <-d.closed:
			return 0, io.EOF
		}
	}
	n := copy(into, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *delayed) Write(from []byte) (int, error) {
	p := parcel{data: append([]byte(nil), from...), due: time.Now().Add(d.delay)}
	select {
	case d.out <- p:
		return len(from), nil
	case <-d.closed:
		return 0, io.ErrClosedPipe
	}
}

func (d *delayed) Close() error {
	select {
	case <-d.closed:
	default:
		close(d.closed)
	}
	return d.Conn.Close()
}
