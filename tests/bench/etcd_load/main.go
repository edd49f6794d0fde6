// Loads an etcd cluster in the manner of `skerry bench` and prints one line of JSON in its form. All connections go to the
// member that leads, which saves etcd a hop. A batch is one transaction; its operations have the transaction's latency.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	loadBatch = 100 // of etcd's 128 operations at most in a transaction
	patience  = 10 * time.Second
)

type options struct {
	endpoints                                            string
	connections, inFlight, batch, valueSize, keys, reads int
	load                                                 bool
	duration                                             time.Duration
}

func parse() options {
	var o options
	flag.StringVar(&o.endpoints, "endpoints", "127.0.0.1:2379", "of all members, with commas")
	flag.IntVar(&o.connections, "connections", 1, "to the member that leads")
	flag.IntVar(&o.inFlight, "in-flight", 64, "requests at once, over all connections")
	flag.IntVar(&o.batch, "batch", 1, "operations in a request")
	flag.IntVar(&o.valueSize, "value-size", 100, "bytes of a value")
	flag.IntVar(&o.keys, "keys", 1000000, "distinct keys of 16 bytes")
	flag.IntVar(&o.reads, "reads", 0, "percent of the requests that read")
	flag.BoolVar(&o.load, "load", false, "first put every key once")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "how long")
	flag.Parse()
	if flag.NArg() > 0 || o.batch > o.keys {
		flag.Usage()
		os.Exit(2)
	}
	return o
}

func keyName(number int) string { return fmt.Sprintf("key:%012d", number) }

// worker has one request under way at a time.
type worker struct {
	client        *clientv3.Client
	random        *rand.Rand
	options       *options
	value         string
	reads, writes []uint32 // microseconds, one for each operation's request
	missing       int
	errors        map[string]int
}

func (w *worker) get(keys []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if len(keys) == 1 {
		answer, err := w.client.Get(ctx, keys[0])
		if err == nil && len(answer.Kvs) == 0 {
			w.missing++
		}
		return err
	}
	operations := make([]clientv3.Op, len(keys))
	for i, key := range keys {
		operations[i] = clientv3.OpGet(key)
	}
	answer, err := w.client.Txn(ctx).Then(operations...).Commit()
	if err != nil {
		return err
	}
	for _, response := range answer.Responses {
		if len(response.GetResponseRange().Kvs) == 0 {
			w.missing++
		}
	}
	return nil
}

func (w *worker) put(keys []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if len(keys) == 1 {
		_, err := w.client.Put(ctx, keys[0], w.value)
		return err
	}
	operations := make([]clientv3.Op, len(keys))
	for i, key := range keys {
		operations[i] = clientv3.OpPut(key, w.value)
	}
	_, err := w.client.Txn(ctx).Then(operations...).Commit()
	return err
}

// chooseKeys chooses different ones: a transaction may put each key once only.
func (w *worker) chooseKeys() []string {
	chosen := make(map[int]bool, w.options.batch)
	keys := make([]string, 0, w.options.batch)
	for len(keys) < w.options.batch {
		number := w.random.Intn(w.options.keys)
		if !chosen[number] {
			chosen[number] = true
			keys = append(keys, keyName(number))
		}
	}
	return keys
}

// run sends requests until the time is up. What ends later has its latency counted, but is not in `done`.
func (w *worker) run(until time.Time, done *atomic.Int64) {
	for time.Now().Before(until) {
		keys := w.chooseKeys()
		read := w.random.Intn(100) < w.options.reads
		begin := time.Now()
		latencies, err := &w.writes, error(nil)
		if read {
			latencies, err = &w.reads, w.get(keys)
		} else {
			err = w.put(keys)
		}
		end := time.Now()
		if err != nil {
			w.errors[err.Error()] += len(keys)
			continue
		}
		*latencies = append(*latencies, uint32(end.Sub(begin).Microseconds()))
		if end.Before(until) {
			done.Add(int64(len(keys)))
		}
	}
}

// load puts the keys that `next` deals out, until there are no more.
func (w *worker) load(next *atomic.Int64) {
	for {
		first := int(next.Add(loadBatch)) - loadBatch
		if first >= w.options.keys {
			return
		}
		var keys []string
		for number := first; number < first+loadBatch && number < w.options.keys; number++ {
			keys = append(keys, keyName(number))
		}
		if err := w.put(keys); err != nil {
			log.Fatal("loading: ", err)
		}
	}
}

// leader is the endpoint of the member that leads.
func leader(endpoints []string) string {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: patience})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for _, endpoint := range endpoints {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		status, err := client.Status(ctx, endpoint)
		cancel()
		if err != nil {
			log.Fatal(endpoint, ": ", err)
		}
		if status.Leader == status.Header.MemberId {
			return endpoint
		}
	}
	log.Fatal("nobody leads")
	return ""
}

func makeWorkers(o *options) []*worker {
	endpoint := leader(strings.Split(o.endpoints, ","))
	clients := make([]*clientv3.Client, o.connections)
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: patience})
		if err != nil {
			log.Fatal(err)
		}
		clients[i] = client
	}
	seed := time.Now().UnixNano()
	value := make([]byte, o.valueSize)
	rand.New(rand.NewSource(seed)).Read(value)
	workers := make([]*worker, o.inFlight)
	for i := range workers {
		workers[i] = &worker{client: clients[i%len(clients)], random: rand.New(rand.NewSource(seed + 1 + int64(i))),
			options: o, value: string(value), errors: map[string]int{}}
	}
	return workers
}

func runAll(workers []*worker, run func(*worker)) {
	var group sync.WaitGroup
	for _, each := range workers {
		group.Add(1)
		go func(w *worker) {
			defer group.Done()
			run(w)
		}(each)
	}
	group.Wait()
}

func kindReport(latencies []uint32, batch int, seconds float64) map[string]any {
	if len(latencies) == 0 {
		return map[string]any{"count": 0}
	}
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	percentile := func(part float64) uint32 { return latencies[int(float64(len(latencies)-1)*part)] }
	count := len(latencies) * batch
	return map[string]any{"count": count, "per_second": float64(count) / seconds, "p50_us": percentile(0.5),
		"p99_us": percentile(0.99), "max_us": latencies[len(latencies)-1]}
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("etcd_load: ")
	o := parse()
	workers := makeWorkers(&o)
	if o.load {
		var next atomic.Int64
		runAll(workers, func(w *worker) { w.load(&next) })
	}
	var done atomic.Int64
	until := time.Now().Add(o.duration)
	runAll(workers, func(w *worker) { w.run(until, &done) })

	seconds := o.duration.Seconds()
	var reads, writes []uint32
	missing, errors := 0, map[string]int{}
	for _, w := range workers {
		reads = append(reads, w.reads...)
		writes = append(writes, w.writes...)
		missing += w.missing
		for text, count := range w.errors {
			errors[text] += count
		}
	}
	report, err := json.Marshal(map[string]any{"commands": done.Load(), "seconds": seconds,
		"per_second": float64(done.Load()) / seconds, "missing": missing, "errors": errors,
		"reads": kindReport(reads, o.batch, seconds), "writes": kindReport(writes, o.batch, seconds)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(report))
	if len(errors) > 0 {
		os.Exit(1)
	}
}
