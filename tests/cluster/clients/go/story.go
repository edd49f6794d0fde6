// The story of test_resp.py by go-redis: story HOST PORT PREFIX.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: os.Args[1] + ":" + os.Args[2]})
	defer client.Close()
	key := func(name string) string { return "{" + os.Args[3] + "}:" + name }

	fmt.Println("PING:", client.Ping(ctx).Val())
	fmt.Println("SET:", client.Set(ctx, key("greeting"), "hello", 0).Val())
	fmt.Println("GET:", client.Get(ctx, key("greeting")).Val())
	if errors.Is(client.Get(ctx, key("none")).Err(), redis.Nil) {
		fmt.Println("GET of a missing key: nil")
	}
	fmt.Println("INCR of a text:", strings.Fields(client.Incr(ctx, key("greeting")).Err().Error())[0])

	pipeline := client.Pipeline()
	for i := 0; i < 100; i++ {
		pipeline.Incr(ctx, key("n"))
	}
	answers, err := pipeline.Exec(ctx)
	check(err)
	count := 0
	for i, answer := range answers {
		if answer.(*redis.IntCmd).Val() == int64(i+1) {
			count++
		}
	}
	fmt.Println("pipeline: 1 to", count)

	transaction := client.TxPipeline()
	set := transaction.Set(ctx, key("t"), "x", 0)
	incr := transaction.Incr(ctx, key("n"))
	get := transaction.Get(ctx, key("greeting"))
	_, err = transaction.Exec(ctx)
	check(err)
	fmt.Println("transaction:", set.Val(), incr.Val(), get.Val())

	err = client.Watch(ctx, func(tx *redis.Tx) error {
		check(client.Incr(ctx, key("n")).Err())
		_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			return pipe.Set(ctx, key("n"), 0, 0).Err()
		})
		return err
	}, key("n"))
	if errors.Is(err, redis.TxFailedErr) {
		fmt.Println("watched: not done")
	}
}
