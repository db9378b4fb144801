// Load sends and receives with the official RocketMQ client for a while, writes the
// history as lines of JSON, and judges it. It ends with 1 if the history is not clean.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	golang "github.com/apache/rocketmq-clients/golang/v5"

	"holdfast/test/lab/history"
	"holdfast/test/rmq/recorder"
)

func main() {
	var o recorder.Options
	flag.StringVar(&o.Endpoint, "endpoint", "127.0.0.1:8081", "brokers as host:port;host:port")
	flag.StringVar(&o.Topic, "topic", "load", "topic")
	flag.StringVar(&o.Consumers, "group", "load", "consumer group")
	flag.IntVar(&o.Producers, "producers", 4, "producers")
	flag.IntVar(&o.Readers, "readers", 2, "consumers")
	flag.IntVar(&o.Size, "size", 1024, "bytes of a body")
	flag.DurationVar(&o.Every, "every", 0, "pause between a producer's sends")
	flag.DurationVar(&o.For, "for", 10*time.Second, "how long to send")
	flag.DurationVar(&o.Drain, "drain", time.Minute, "how long to wait for what is missing")
	flag.DurationVar(&o.Invisible, "invisible", 20*time.Second, "invisible time of what is received")
	file := flag.String("history", "history.jsonl", "file for the history")
	only := flag.Bool("judge", false, "only judge the file")
	flag.BoolVar(&golang.EnableSsl, "tls", false, "speak TLS")
	flag.Parse()
	if err := run(o, *file, *only); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(o recorder.Options, file string, only bool) error {
	if !only {
		if err := record(o, file); err != nil {
			return err
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	j, err := history.Read(f)
	if err != nil {
		return err
	}
	r := j.Report()
	fmt.Println(r)
	if n := len(r.Violations); n > 0 {
		return fmt.Errorf("%d violations", n)
	}
	return nil
}

func record(o recorder.Options, file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// SIGINT ends the sending; what is missing is still waited for.
	until, enough := signal.NotifyContext(ctx, os.Interrupt)
	defer enough()
	o.Until = until
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	if err := recorder.Run(ctx, o, w); err != nil {
		return fmt.Errorf("record %s: %w", file, err)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
