// Stories of Sarama, the other client of Go, under many collectors and exporters. Its settings name
// a version of Kafka: each story runs with the oldest that it takes and with the newest.
// Administration is in admin.go.
package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"millpond/stories/story"
)

// told is a story with the versions of Kafka that Sarama is told of.
type told func(ctx context.Context, bootstrap string, version sarama.KafkaVersion)

func main() {
	stories := map[string]told{
		"codecs":       codecs,
		"idempotent":   idempotent,
		"group":        group,
		"transactions": transactions,
		"topics":       topics,
		"settings":     settings,
		"groups":       groups,
		"the_rest":     theRest,
	}
	all := map[string]story.Story{}
	for name, tell := range stories {
		all[name+"_as_of_2"] = func(ctx context.Context, bootstrap string) {
			tell(ctx, bootstrap, sarama.DefaultVersion)
		}
		all[name+"_as_of_now"] = func(ctx context.Context, bootstrap string) {
			tell(ctx, bootstrap, sarama.MaxVersion)
		}
	}
	sarama.Logger = log.New(quiet{os.Stderr}, "", log.Lmicroseconds)
	story.Main(all)
}

// quiet leaves out what Sarama says each time that a story asks whether it may go on. The rest is
// shown by a test that fails.
type quiet struct{ to io.Writer }

func (one quiet) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("client/metadata fetching metadata for")) {
		return len(line), nil
	}
	return one.to.Write(line)
}

func config(version sarama.KafkaVersion) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = version
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	return config
}

func makeTopic(bootstrap string, version sarama.KafkaVersion, topic string, partitions int32) {
	admin := story.Must(sarama.NewClusterAdmin([]string{bootstrap}, config(version)))
	defer admin.Close()
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}
	story.Check(admin.CreateTopic(topic, detail, false))
}

// messages are the numbers first..end, spread over the partitions, a second between their times.
func messages(topic string, first, end, partitions int) []*sarama.ProducerMessage {
	var all []*sarama.ProducerMessage
	for number := first; number < end; number++ {
		all = append(all, &sarama.ProducerMessage{
			Topic:     topic,
			Partition: int32(number % partitions),
			Key:       sarama.StringEncoder("k"),
			Value:     sarama.StringEncoder(strconv.Itoa(number)),
			Headers:   []sarama.RecordHeader{{Key: []byte("n"), Value: []byte{byte(number)}}},
			Timestamp: at(number),
		})
	}
	return all
}

func at(number int) time.Time {
	return time.UnixMilli(1_700_000_000_000 + int64(number)*1000)
}

// send is the plain producer, as most use it: at least once. To one partition only, where Sarama has
// nothing to fall over: see sendOnce.
func send(bootstrap string, config *sarama.Config, messages []*sarama.ProducerMessage) {
	producer := story.Must(sarama.NewSyncProducer([]string{bootstrap}, config))
	defer producer.Close()
	story.Check(producer.SendMessages(messages))
}

// sendOnce is the producer for several partitions. The first messages of two partitions may find the
// same connection half open (Broker.Open marks it before it locks it): one is told "broker not
// connected", closes the connection that the other has just sent its batch through, and Sarama sends
// that batch again. A plain producer has then written it twice; an idempotent one has not.
func sendOnce(bootstrap string, config *sarama.Config, messages []*sarama.ProducerMessage) {
	once := *config
	once.Producer.Idempotent = true
	once.Producer.RequiredAcks = sarama.WaitForAll
	once.Net.MaxOpenRequests = 1
	send(bootstrap, &once, messages)
}

// read gives so many messages of a partition from an offset on.
func read(
	ctx context.Context, bootstrap string, config *sarama.Config, topic string, partition int32,
	offset int64, count int,
) []*sarama.ConsumerMessage {
	consumer := story.Must(sarama.NewConsumer([]string{bootstrap}, config))
	defer consumer.Close()
	part := story.Must(consumer.ConsumePartition(topic, partition, offset))
	defer part.Close()
	var all []*sarama.ConsumerMessage
	for len(all) < count {
		select {
		case message := <-part.Messages():
			all = append(all, message)
		case <-ctx.Done():
			story.Expect(false, "%d of %d messages came", len(all), count)
		}
	}
	return all
}

func codecs(ctx context.Context, bootstrap string, version sarama.KafkaVersion) {
	for codec := sarama.CompressionNone; codec <= sarama.CompressionZSTD; codec++ {
		topic := codec.String()
		makeTopic(bootstrap, version, topic, 1)
		config := config(version)
		config.Producer.Compression = codec
		send(bootstrap, config, messages(topic, 0, 500, 1))
		for number, message := range read(ctx, bootstrap, config, topic, 0, 0, 500) {
			story.Equal(message.Offset, int64(number), topic)
			story.Equal(string(message.Key), "k", topic)
			story.Equal(string(message.Value), strconv.Itoa(number), topic)
			story.Equal(message.Headers[0].Value, []byte{byte(number)}, topic)
			story.Equal(message.Timestamp.UnixMilli(), at(number).UnixMilli(), topic)
		}
	}
}

func idempotent(ctx context.Context, bootstrap string, version sarama.KafkaVersion) {
	makeTopic(bootstrap, version, "ordered", 3)
	config := config(version)
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
	producer := story.Must(sarama.NewAsyncProducer([]string{bootstrap}, config))
	go func() {
		for _, message := range messages("ordered", 0, 3000, 3) {
			producer.Input() <- message
		}
	}()
	for acked := 0; acked < 3000; {
		select {
		case <-producer.Successes():
			acked++
		case failed := <-producer.Errors():
			story.Check(failed.Err)
		}
	}
	story.Check(producer.Close())
	for partition := range 3 {
		all := read(ctx, bootstrap, config, "ordered", int32(partition), 0, 1000)
		for index, message := range all {
			story.Equal(string(message.Value), strconv.Itoa(index*3+partition), "order")
		}
	}
}

// member is a consumer of a group.
type member struct {
	sync.Mutex
	client sarama.ConsumerGroup
	held   int
	seen   []string
	ended  chan struct{}
}

func join(ctx context.Context, bootstrap string, config *sarama.Config) *member {
	one := &member{ended: make(chan struct{})}
	one.client = story.Must(sarama.NewConsumerGroup([]string{bootstrap}, "sarama", config))
	go func() {
		defer close(one.ended)
		for ctx.Err() == nil {
			err := one.client.Consume(ctx, []string{"shared"}, one)
			if errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
			story.Check(err)
		}
	}()
	return one
}

func (one *member) Setup(session sarama.ConsumerGroupSession) error {
	one.Lock()
	defer one.Unlock()
	one.held = len(session.Claims()["shared"])
	return nil
}

func (one *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (one *member) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	for message := range claim.Messages() {
		one.Lock()
		one.seen = append(one.seen, string(message.Value))
		one.Unlock()
		session.MarkMessage(message, "")
	}
	return nil
}

func (one *member) leave() {
	story.Check(one.client.Close())
	<-one.ended
}

// counts are the partitions that it has, and the messages that it saw.
func (one *member) counts() (partitions, messages int) {
	one.Lock()
	defer one.Unlock()
	return one.held, len(one.seen)
}

func group(ctx context.Context, bootstrap string, version sarama.KafkaVersion) {
	makeTopic(bootstrap, version, "shared", 4)
	config := config(version)
	asker := story.Must(sarama.NewClient([]string{bootstrap}, config))
	defer asker.Close()
	pause := func() { story.Check(asker.RefreshMetadata("shared")) }
	one, two := join(ctx, bootstrap, config), join(ctx, bootstrap, config)
	story.Until(ctx, "two members with two partitions each", func() bool {
		pause()
		first, _ := one.counts()
		second, _ := two.counts()
		return first == 2 && second == 2
	})
	sendOnce(bootstrap, config, messages("shared", 0, 200, 4))
	story.Until(ctx, "the first 200 messages", func() bool {
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
	sendOnce(bootstrap, config, messages("shared", 200, 400, 4))
	story.Until(ctx, "all 400 messages", func() bool {
		pause()
		_, first := one.counts()
		_, second := two.counts()
		return first+second >= 400
	})
	one.leave()
	story.Equal(story.Sorted(append(one.seen, two.seen...)), story.Numbers(0, 400), "seen")
	admin := story.Must(sarama.NewClusterAdmin([]string{bootstrap}, config))
	defer admin.Close()
	offsets := story.Must(admin.ListConsumerGroupOffsets("sarama", nil))
	for partition := range int32(4) {
		block := offsets.GetBlock("shared", partition)
		story.Expect(block != nil, "no offset of partition %d", partition)
		story.Equal(block.Offset, int64(100), "committed")
	}
}

func transactions(ctx context.Context, bootstrap string, version sarama.KafkaVersion) {
	makeTopic(bootstrap, version, "in", 1)
	makeTopic(bootstrap, version, "out", 1)
	plain := config(version)
	send(bootstrap, plain, messages("in", 0, 30, 1))
	config := config(version)
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Transaction.ID = "worker"
	config.Net.MaxOpenRequests = 1
	producer := story.Must(sarama.NewSyncProducer([]string{bootstrap}, config))
	defer producer.Close()
	next := int64(0)
	for round := 0; next < 30; round++ {
		some := read(ctx, bootstrap, plain, "in", 0, next, 10)
		story.Check(producer.BeginTxn())
		for _, message := range some {
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{
				Topic: "out", Partition: 0, Value: sarama.ByteEncoder(message.Value),
			})
			story.Check(err)
			story.Check(producer.AddMessageToTxn(message, "workers", nil))
		}
		if round%2 == 0 {
			story.Check(producer.AbortTxn())
			continue
		}
		story.Check(producer.CommitTxn())
		next += 10
	}
	committed := *plain
	committed.Consumer.IsolationLevel = sarama.ReadCommitted
	for number, message := range read(ctx, bootstrap, &committed, "out", 0, 0, 30) {
		story.Equal(string(message.Value), strconv.Itoa(number), "committed")
	}
	admin := story.Must(sarama.NewClusterAdmin([]string{bootstrap}, plain))
	defer admin.Close()
	offsets := story.Must(admin.ListConsumerGroupOffsets("workers", map[string][]int32{"in": {0}}))
	story.Equal(offsets.GetBlock("in", 0).Offset, int64(30), "offset of the transaction")
}
