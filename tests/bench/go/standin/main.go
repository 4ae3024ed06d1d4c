// SPDX-License-Identifier: MIT

// A stand-in for Modal that is fast enough to tell its clients apart.
//
// What is real: HTTP/2, TLS, gRPC and Modal's own generated messages, and every
// call that a client makes. What is not: no process runs. A command that prints
// N zeros (`head -c N /dev/zero`) is answered with N zeros, every other one with
// nothing and exit code 0, at once. So all time that a client takes is its own,
// the transport's, and this program's. modalpool's helper is not run either: its
// protocol is spoken here.
//
//	standin -delays 0,10,50 -host 127.0.0.2 -ca FILE
//
// One server for each delay: every byte arrives that many milliseconds late, in
// both directions, so that a round trip takes twice as long. It prints a line of
// JSON when it is ready; each line on standard input asks for the counters, as
// another line of JSON; it ends with its standard input.
package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	pb "github.com/modal-labs/modal-client/go/proto/modal_proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

func serve(host string, delay, execDelay time.Duration, certificate tls.Certificate, counters *counters) string {
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		log.Fatal(err)
	}
	url := "https://" + listener.Addr().String()
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(100<<20),
		grpc.InitialWindowSize(1<<20),
		grpc.InitialConnWindowSize(1<<20),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(counters.unary),
		grpc.ChainStreamInterceptor(counters.stream),
	)
	world := newWorld(url, execDelay)
	pb.RegisterModalClientServer(server, &control{world: world})
	pb.RegisterTaskCommandRouterServer(server, &router{world: world})
	// Not by gRPC's own means, which refuse clients that do not name HTTP/2 in their handshake, as Python's does not.
	far := tls.NewListener(delayListener{listener, delay}, &tls.Config{
		Certificates: []tls.Certificate{certificate},
		NextProtos:   []string{"h2"},
	})
	go func() { log.Fatal(server.Serve(far)) }()
	return url
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		log.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func main() {
	delays := flag.String("delays", "0", "milliseconds, for each server; N+exec takes -exec-delay to start one")
	execDelay := flag.Duration("exec-delay", 200*time.Millisecond, "of N+exec; published measurements of Modal say 0.2 s")
	host := flag.String("host", "127.0.0.2", "an address of this machine; SDKs do without TLS on 127.0.0.1")
	ca := flag.String("ca", "", "where the certificate is written, for clients to trust")
	flag.Parse()

	certificate, err := makeCertificate(*host, *ca)
	if err != nil {
		log.Fatal(err)
	}
	counters := &counters{}
	urls := map[string]string{}
	for _, text := range strings.Split(*delays, ",") {
		number, trait, _ := strings.Cut(text, "+")
		starting := time.Duration(0)
		if trait == "exec" {
			starting = *execDelay
		}
		ms, err := strconv.Atoi(number)
		if err != nil {
			log.Fatal(err)
		}
		urls[text] = serve(*host, time.Duration(ms)*time.Millisecond, starting, certificate, counters)
	}
	say(map[string]any{"urls": urls})

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		say(map[string]any{"calls": counters.calls.take(), "open": counters.open.take(), "cpu_ns": processorTime().Nanoseconds()})
	}
}

func say(what any) {
	text, err := json.Marshal(what)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
}
