// Stories of franz-go, the client under much of what is written in Go: consoles, command-line
// tools, collectors. Administration is in admin.go.
package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millpond/stories/story"
)

func main() {
	story.Main(map[string]story.Story{
		"codecs":              codecs,
		"group":               func(c context.Context, b string) { group(c, b) },
		"group_of_the_node":   func(c context.Context, b string) { group(c, b, kgo.ServerSideBalancer()) },
		"pattern_and_times":   patternAndTimes,
		"exactly_once":        exactlyOnce,
		"topics":              topics,
		"settings":            settings,
		"offsets_of_a_group":  offsetsOfAGroup,
		"groups_as_a_console": groupsAsAConsole,
		"transactions":        transactions,
		"the_rest":            theRest,
	})
}

func client(bootstrap string, options ...kgo.Opt) *kgo.Client {
	all := append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, options...)
	return story.Must(kgo.NewClient(all...))
}

func makeTopic(ctx context.Context, bootstrap, topic string, partitions int32) {
	one := client(bootstrap)
	defer one.Close()
	made := story.Must(kadm.NewClient(one).CreateTopic(ctx, partitions, 1, nil, topic))
	story.Check(made.Err)
}

// send stores the numbers first..end, spread over the partitions, a second between their times.
func send(ctx context.Context, producer *kgo.Client, topic string, first, end, partitions int) {
	var records []*kgo.Record
	for number := first; number < end; number++ {
		records = append(records, &kgo.Record{
			Topic:     topic,
			Partition: int32(number % partitions),
			Key:       []byte("k"),
			Value:     []byte(strconv.Itoa(number)),
			Headers:   []kgo.RecordHeader{{Key: "n", Value: []byte{byte(number)}}},
			Timestamp: at(number),
		})
	}
	story.Check(producer.ProduceSync(ctx, records...).FirstErr())
}

func at(number int) time.Time {
	return time.UnixMilli(1_700_000_000_000 + int64(number)*1000)
}

func poll(ctx context.Context, consumer *kgo.Client) []*kgo.Record {
	fetches := consumer.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		story.Check(failed.Err)
	}
	return fetches.Records()
}

// read polls until so many records came; their values, sorted.
func read(ctx context.Context, consumer *kgo.Client, count int) []string {
	var values []string
	for len(values) < count {
		for _, record := range poll(ctx, consumer) {
			values = append(values, string(record.Value))
		}
	}
	return story.Sorted(values)
}

func codecs(ctx context.Context, bootstrap string) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(),
		"zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		makeTopic(ctx, bootstrap, name, 2)
		producer := client(bootstrap, kgo.ProducerBatchCompression(codec),
			kgo.RecordPartitioner(kgo.ManualPartitioner()))
		send(ctx, producer, name, 0, 1000, 2)
		producer.Close()
		consumer := client(bootstrap, kgo.ConsumeTopics(name))
		next := []int{0, 1}
		for next[0] < 1000 || next[1] < 1001 {
			for _, record := range poll(ctx, consumer) {
				number := next[record.Partition]
				next[record.Partition] += 2
				story.Equal(string(record.Value), strconv.Itoa(number), name)
				story.Equal(string(record.Key), "k", name)
				story.Equal(record.Headers[0].Value, []byte{byte(number)}, name)
				story.Equal(record.Timestamp.UnixMilli(), at(number).UnixMilli(), name)
			}
		}
		consumer.Close()
	}
}

// member is a consumer of a group in a goroutine of its own, as a process of its own would be.
type member struct {
	sync.Mutex
	client *kgo.Client
	held   map[int32]bool
	seen   []string
	stop   context.CancelFunc
	ended  chan struct{}
}

func join(ctx context.Context, bootstrap, topic string, options ...kgo.Opt) *member {
	one := &member{held: map[int32]bool{}, ended: make(chan struct{})}
	change := func(holds bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			one.Lock()
			defer one.Unlock()
			for _, partition := range partitions[topic] {
				one.held[partition] = holds
			}
		}
	}
	options = append(options, kgo.ConsumerGroup("franz"), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)))
	one.client = client(bootstrap, options...)
	polls, stop := context.WithCancel(ctx)
	one.stop = stop
	go one.run(ctx, polls)
	return one
}

func (one *member) run(ctx, polls context.Context) {
	defer close(one.ended)
	for polls.Err() == nil {
		fetches := one.client.PollFetches(polls)
		one.Lock()
		for _, record := range fetches.Records() {
			one.seen = append(one.seen, string(record.Value))
		}
		one.Unlock()
		if fetches.NumRecords() > 0 {
			story.Check(one.client.CommitUncommittedOffsets(ctx))
		}
		one.client.AllowRebalance()
	}
}

// leave lets it commit what it saw before it goes: who has left may not.
func (one *member) leave() {
	one.stop()
	<-one.ended
	one.client.CloseAllowingRebalance()
}

// counts are the partitions that it has, and the records that it saw.
func (one *member) counts() (partitions, records int) {
	one.Lock()
	defer one.Unlock()
	for _, holds := range one.held {
		if holds {
			partitions++
		}
	}
	return partitions, len(one.seen)
}

// group: two members share four partitions; when one leaves, the other has all; nothing is seen
// twice, for who leaves has committed.
func group(ctx context.Context, bootstrap string, options ...kgo.Opt) {
	makeTopic(ctx, bootstrap, "shared", 4)
	producer := client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	one := join(ctx, bootstrap, "shared", options...)
	two := join(ctx, bootstrap, "shared", options...)
	pause := func() { story.Check(producer.Ping(ctx)) }
	story.Until(ctx, "two members with two partitions each", func() bool {
		pause()
		first, _ := one.counts()
		second, _ := two.counts()
		return first == 2 && second == 2
	})
	send(ctx, producer, "shared", 0, 200, 4)
	story.Until(ctx, "the first 200 records", func() bool {
		pause()
		_, first := one.counts()
		_, second := two.counts()
		return first+second >= 200
	})
	two.leave()
	story.Until(ctx, "all four partitions for who stays", func() bool {
		pause()
		partitions, _ := one.counts()
		return partitions == 4
	})
	send(ctx, producer, "shared", 200, 400, 4)
	story.Until(ctx, "all 400 records", func() bool {
		pause()
		_, first := one.counts()
		_, second := two.counts()
		return first+second >= 400
	})
	one.leave()
	story.Equal(story.Sorted(append(one.seen, two.seen...)), story.Numbers(0, 400), "seen")
}

func patternAndTimes(ctx context.Context, bootstrap string) {
	producer := client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	for _, topic := range []string{"water-1", "water-2", "fire"} {
		makeTopic(ctx, bootstrap, topic, 1)
		send(ctx, producer, topic, 0, 50, 1)
	}
	consumer := client(bootstrap, kgo.ConsumeTopics("^water-[0-9]$"), kgo.ConsumeRegex(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(at(40).UnixMilli())))
	defer consumer.Close()
	wanted := story.Sorted(append(story.Numbers(40, 50), story.Numbers(40, 50)...))
	story.Equal(read(ctx, consumer, 20), wanted, "from a time on")
	last := client(bootstrap, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		"fire": {0: kgo.NewOffset().AtEnd().Relative(-5)},
	}))
	defer last.Close()
	story.Equal(read(ctx, last, 5), story.Numbers(45, 50), "the last five")
}

// exactlyOnce: read, write and commit in transactions; each third is aborted and done again.
func exactlyOnce(ctx context.Context, bootstrap string) {
	makeTopic(ctx, bootstrap, "in", 2)
	makeTopic(ctx, bootstrap, "out", 1)
	producer := client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	send(ctx, producer, "in", 0, 300, 2)
	producer.Close()
	session := story.Must(kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap), kgo.TransactionalID("worker"),
		kgo.ConsumerGroup("workers"), kgo.ConsumeTopics("in"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
	defer session.Close()
	for done, round := 0, 0; done < 300; round++ {
		fetches := session.PollRecords(ctx, 20)
		story.Check(fetches.Err())
		story.Check(session.Begin())
		for _, record := range fetches.Records() {
			session.Produce(ctx, &kgo.Record{Topic: "out", Value: record.Value}, nil)
		}
		end := kgo.TryCommit
		if round%3 == 2 {
			end = kgo.TryAbort
		}
		if story.Must(session.End(ctx, end)) {
			done += fetches.NumRecords()
		}
	}
	consumer := client(bootstrap, kgo.ConsumeTopics("out"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer consumer.Close()
	story.Equal(read(ctx, consumer, 300), story.Numbers(0, 300), "committed")
	lag := story.Must(kadm.NewClient(consumer).Lag(ctx, "workers"))["workers"]
	story.Check(lag.Error())
	story.Equal(lag.Lag.Total(), int64(0), "lag")
}
