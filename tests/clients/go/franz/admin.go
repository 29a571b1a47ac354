// Administration with kadm, as the consoles and tools that are built on it do it.

package main

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"millpond/stories/story"
)

func admin(bootstrap string) *kadm.Client {
	return kadm.NewClient(client(bootstrap))
}

func topics(ctx context.Context, bootstrap string) {
	admin := admin(bootstrap)
	defer admin.Close()
	limit := "1048576"
	made := story.Must(admin.CreateTopic(ctx, 3, 1,
		map[string]*string{"max.message.bytes": &limit}, "made"))
	story.Check(made.Err)
	again := story.Must(admin.CreateTopics(ctx, 3, 1, nil, "made"))["made"]
	story.Expect(errors.Is(again.Err, kerr.TopicAlreadyExists), "made twice: %v", again.Err)
	tried := story.Must(admin.ValidateCreateTopics(ctx, 1, 1, nil, "tried"))["tried"]
	story.Check(tried.Err)
	grown := story.Must(admin.UpdatePartitions(ctx, 5, "made"))["made"]
	story.Check(grown.Err)
	less := story.Must(admin.UpdatePartitions(ctx, 2, "made"))["made"]
	story.Expect(less.Err != nil, "partitions were taken away")
	listed := story.Must(admin.ListTopics(ctx))
	story.Equal(listed.Names(), []string{"made"}, "topics")
	story.Equal(len(listed["made"].Partitions), 5, "partitions")
	story.Equal(listed["made"].ID, made.ID, "id")

	producer := client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	send(ctx, producer, "made", 0, 100, 5)
	ends := story.Must(admin.ListEndOffsets(ctx, "made"))
	story.Check(ends.Error())
	var to kadm.Offsets = ends.Offsets()
	to["made"][0] = kadm.Offset{Topic: "made", Partition: 0, At: 7, LeaderEpoch: -1}
	deleted := story.Must(admin.DeleteRecords(ctx, to))
	story.Check(deleted.Error())
	starts := story.Must(admin.ListStartOffsets(ctx, "made"))
	for partition, wanted := range map[int32]int64{0: 7, 1: 20, 4: 20} {
		start, _ := starts.Lookup("made", partition)
		story.Equal(start.Offset, wanted, "start after deletion")
	}
	newest, _ := story.Must(admin.ListMaxTimestampOffsets(ctx, "made")).Lookup("made", 0)
	story.Equal(newest.Offset, int64(19), "the newest")
	story.Equal(newest.Timestamp, at(95).UnixMilli(), "the time of the newest")
	after, _ := story.Must(admin.ListOffsetsAfterMilli(ctx, at(90).UnixMilli(), "made")).
		Lookup("made", 0)
	story.Equal(after.Offset, int64(18), "the first from a time on")
	story.Check(story.Must(admin.DeleteTopic(ctx, "made")).Err)
	// A client of its own, which remembers nothing.
	fresh := client(bootstrap)
	defer fresh.Close()
	left := story.Must(kadm.NewClient(fresh).ListTopics(ctx)).Names()
	story.Equal(len(left), 0, "topics that are left")
}

func settings(ctx context.Context, bootstrap string) {
	makeTopic(ctx, bootstrap, "set", 1)
	admin := admin(bootstrap)
	defer admin.Close()
	found := func(key string) kadm.Config {
		all := story.Must(admin.DescribeTopicConfigs(ctx, "set"))
		one := story.Must(all.On("set", nil))
		story.Check(one.Err)
		at := slices.IndexFunc(one.Configs, func(c kadm.Config) bool { return c.Key == key })
		story.Expect(at >= 0, "%s is not described", key)
		return one.Configs[at]
	}
	story.Expect(found("retention.ms").Source.String() == "DEFAULT_CONFIG", "a default")
	day := "86400000"
	compact := "compact"
	changes := []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "retention.ms", Value: &day},
		{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: &compact},
	}
	for _, one := range story.Must(admin.ValidateAlterTopicConfigs(ctx, changes, "set")) {
		story.Check(one.Err)
	}
	story.Expect(*found("retention.ms").Value != day, "it was only validated")
	for _, one := range story.Must(admin.AlterTopicConfigs(ctx, changes, "set")) {
		story.Check(one.Err)
	}
	story.Equal(*found("retention.ms").Value, day, "retention.ms")
	story.Equal(*found("cleanup.policy").Value, "delete,compact", "cleanup.policy")
	story.Expect(found("retention.ms").Source.String() == "DYNAMIC_TOPIC_CONFIG", "its own")
	back := []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "retention.ms"}}
	for _, one := range story.Must(admin.AlterTopicConfigs(ctx, back, "set")) {
		story.Check(one.Err)
	}
	story.Expect(found("retention.ms").Source.String() == "DEFAULT_CONFIG", "given back")
	wrong := "yesterday"
	refused := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &wrong}}
	for _, one := range story.Must(admin.AlterTopicConfigs(ctx, refused, "set")) {
		story.Expect(errors.Is(one.Err, kerr.InvalidConfig), "refused: %v", one.Err)
	}
	for _, broker := range story.Must(admin.DescribeBrokerConfigs(ctx, 1)) {
		story.Check(broker.Err)
		story.Expect(len(broker.Configs) > 20, "%d settings of the node", len(broker.Configs))
	}
}

func offsetsOfAGroup(ctx context.Context, bootstrap string) {
	makeTopic(ctx, bootstrap, "read", 2)
	admin := admin(bootstrap)
	defer admin.Close()
	producer := client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	send(ctx, producer, "read", 0, 20, 2)
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: "read", Partition: 0, At: 4, LeaderEpoch: -1, Metadata: "m"})
	offsets.Add(kadm.Offset{Topic: "read", Partition: 1, At: 10, LeaderEpoch: -1})
	story.Check(admin.CommitAllOffsets(ctx, "readers", offsets))
	found := story.Must(admin.FetchOffsets(ctx, "readers"))
	one, _ := found.Lookup("read", 0)
	story.Equal(one.At, int64(4), "committed")
	story.Equal(one.Metadata, "m", "metadata")
	lag := story.Must(admin.Lag(ctx, "readers"))["readers"]
	story.Check(lag.Error())
	story.Equal(lag.Lag.Total(), int64(6), "lag")
	consumer := client(bootstrap, kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("read"))
	story.Equal(len(read(ctx, consumer, 6)), 6, "from the offsets on")
	consumer.Close()
	story.Check(story.Must(admin.DeleteOffsets(ctx, "readers",
		kadm.TopicsSet{"read": {1: {}}})).Error())
	found = story.Must(admin.FetchOffsets(ctx, "readers"))
	_, there := found.Lookup("read", 1)
	story.Expect(!there, "the offset is still there")
	story.Check(story.Must(admin.DeleteGroup(ctx, "readers")).Err)
	story.Equal(len(story.Must(admin.ListGroups(ctx))), 0, "groups")
}

// groupsAsAConsole: one group of each protocol, listed, described and with its lag.
func groupsAsAConsole(ctx context.Context, bootstrap string) {
	makeTopic(ctx, bootstrap, "watched", 2)
	admin := admin(bootstrap)
	defer admin.Close()
	producer := client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	send(ctx, producer, "watched", 0, 20, 2)
	start := kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())
	classic := client(bootstrap, kgo.ConsumerGroup("classic"), kgo.ConsumeTopics("watched"), start)
	defer classic.Close()
	modern := client(bootstrap, kgo.ConsumerGroup("modern"), kgo.ConsumeTopics("watched"), start,
		kgo.ServerSideBalancer())
	defer modern.Close()
	for _, one := range []*kgo.Client{classic, modern} {
		read(ctx, one, 20)
		story.Check(one.CommitUncommittedOffsets(ctx))
	}
	send(ctx, producer, "watched", 20, 30, 2)
	listed := story.Must(admin.ListGroups(ctx, "Stable"))
	story.Equal(listed.Groups(), []string{"classic", "modern"}, "groups")
	listed = story.Must(admin.ListGroupsByType(ctx, []string{"consumer"}))
	story.Equal(listed.Groups(), []string{"modern"}, "groups of the new type")
	old := story.Must(admin.DescribeGroups(ctx, "classic"))["classic"]
	story.Check(old.Err)
	story.Equal(len(old.Members), 1, "members")
	assigned, _ := old.Members[0].Assigned.AsConsumer()
	story.Equal(len(assigned.Topics[0].Partitions), 2, "partitions of the member")
	young := story.Must(admin.DescribeConsumerGroups(ctx, "modern"))["modern"]
	story.Check(young.Err)
	story.Equal(len(young.Members), 1, "members")
	story.Equal(young.AssignorName, "uniform", "assignor")
	lag := story.Must(admin.Lag(ctx, "classic"))["classic"]
	story.Check(lag.Error())
	story.Equal(lag.Lag.Total(), int64(10), "lag")
	committed := story.Must(admin.FetchOffsets(ctx, "modern"))
	story.Equal(committed.Offsets().Sorted()[1].At, int64(10), "committed")
}

func transactions(ctx context.Context, bootstrap string) {
	makeTopic(ctx, bootstrap, "hanging", 1)
	admin := admin(bootstrap)
	defer admin.Close()
	producer := client(bootstrap, kgo.TransactionalID("hanging"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	story.Check(producer.BeginTransaction())
	send(ctx, producer, "hanging", 0, 10, 1)
	listed := story.Must(admin.ListTransactions(ctx, nil, []string{"Ongoing"}))
	story.Equal(listed["hanging"].State, "Ongoing", "state")
	described := story.Must(admin.DescribeTransactions(ctx, "hanging"))["hanging"]
	story.Check(described.Err)
	story.Expect(described.Topics.Lookup("hanging", 0), "its partition")
	active := story.Must(admin.DescribeProducers(ctx, kadm.TopicsSet{"hanging": {0: {}}}))
	writer := active["hanging"].Partitions[0].ActiveProducers.Sorted()[0]
	story.Equal(writer.ProducerID, described.ProducerID, "producer")
	stable := story.Must(admin.ListCommittedOffsets(ctx, "hanging"))
	end, _ := stable.Lookup("hanging", 0)
	story.Equal(end.Offset, int64(0), "the last stable offset")
	story.Check(producer.EndTransaction(ctx, kgo.TryAbort))
	story.Check(producer.BeginTransaction())
	send(ctx, producer, "hanging", 10, 20, 1)
	story.Check(producer.EndTransaction(ctx, kgo.TryCommit))
	consumer := client(bootstrap, kgo.ConsumeTopics("hanging"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer consumer.Close()
	story.Equal(read(ctx, consumer, 10), story.Numbers(10, 20), "committed")
}

// theRest is what a console asks for besides: sizes, versions, quotas, rules, moves.
func theRest(ctx context.Context, bootstrap string) {
	makeTopic(ctx, bootstrap, "rest", 2)
	admin := admin(bootstrap)
	defer admin.Close()
	producer := client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer producer.Close()
	send(ctx, producer, "rest", 0, 100, 2)
	brokers := story.Must(admin.ListBrokers(ctx))
	story.Equal(len(brokers), 1, "nodes")
	about := story.Must(admin.BrokerMetadata(ctx))
	story.Expect(about.Cluster != "", "a cluster id")
	story.Equal(about.Controller, brokers[0].NodeID, "the controller")
	dirs := story.Must(admin.DescribeAllLogDirs(ctx, nil))
	dirs.Each(func(dir kadm.DescribedLogDir) {
		story.Check(dir.Err)
		story.Expect(dir.Size() > 0, "sizes")
	})
	for _, one := range story.Must(admin.ApiVersions(ctx)) {
		story.Check(one.Err)
		_, newest, there := one.KeyVersions(0)
		story.Expect(there && newest >= 9, "Produce up to %d", newest)
	}
	rules, err := admin.DescribeACLs(ctx, kadm.NewACLs().AnyResource("").Allow("").Deny("").
		AllowHosts("").DenyHosts("").Operations().ResourcePatternType(kadm.ACLPatternAny))
	if err == nil {
		err = rules[0].Err
	}
	story.Expect(errors.Is(err, kerr.SecurityDisabled), "rules: %v", err)
	named := "franz"
	entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: &named}}
	set := story.Must(admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
		Entity: entity,
		Ops:    []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1e9}},
	}}))
	story.Check(set[0].Err)
	quotas := story.Must(admin.DescribeClientQuotas(ctx, false,
		[]kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchType: 2}}))
	story.Equal(quotas[0].Values[0].Value, 1e9, "quota")
	moves := story.Must(admin.ListPartitionReassignments(ctx, nil))
	story.Equal(len(moves), 0, "moves")
	led := story.Must(admin.ElectLeaders(ctx, kadm.ElectPreferredReplica,
		kadm.TopicsSet{"rest": {0: {}}}))
	story.Expect(errors.Is(led["rest"][0].Err, kerr.ElectionNotNeeded), "%v", led["rest"][0].Err)
}
