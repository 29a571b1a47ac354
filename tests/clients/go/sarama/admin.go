// Administration with Sarama's ClusterAdmin, as exporters and command-line tools do it.

package main

import (
	"context"
	"errors"
	"slices"

	"github.com/IBM/sarama"

	"millpond/stories/story"
)

func administrator(bootstrap string, version sarama.KafkaVersion) sarama.ClusterAdmin {
	return story.Must(sarama.NewClusterAdmin([]string{bootstrap}, config(version)))
}

func topics(_ context.Context, bootstrap string, version sarama.KafkaVersion) {
	admin := administrator(bootstrap, version)
	defer admin.Close()
	limit := "1048576"
	detail := &sarama.TopicDetail{
		NumPartitions: 3, ReplicationFactor: 1,
		ConfigEntries: map[string]*string{"max.message.bytes": &limit},
	}
	story.Check(admin.CreateTopic("tried", detail, true))
	story.Check(admin.CreateTopic("made", detail, false))
	again := admin.CreateTopic("made", detail, false)
	story.Expect(errors.Is(again, sarama.ErrTopicAlreadyExists), "made twice: %v", again)
	story.Check(admin.CreatePartitions("made", 5, nil, false))
	story.Expect(admin.CreatePartitions("made", 2, nil, false) != nil, "partitions taken away")
	listed := story.Must(admin.ListTopics())
	story.Equal(len(listed), 1, "topics")
	story.Equal(listed["made"].NumPartitions, int32(5), "partitions")
	story.Equal(*listed["made"].ConfigEntries["max.message.bytes"], limit, "its setting")
	described := story.Must(admin.DescribeTopics([]string{"made", "none"}))
	story.Equal(described[0].Err, sarama.ErrNoError, "described")
	story.Equal(described[1].Err, sarama.ErrUnknownTopicOrPartition, "a topic that is not there")

	sendOnce(bootstrap, config(version), messages("made", 0, 100, 5))
	story.Check(admin.DeleteRecords("made", map[int32]int64{0: 7}))
	client := story.Must(sarama.NewClient([]string{bootstrap}, config(version)))
	defer client.Close()
	story.Equal(story.Must(client.GetOffset("made", 0, sarama.OffsetOldest)), int64(7), "start")
	story.Equal(story.Must(client.GetOffset("made", 1, sarama.OffsetNewest)), int64(20), "end")
	from := story.Must(client.GetOffset("made", 0, at(90).UnixMilli()))
	story.Equal(from, int64(18), "the first from a time on")
	story.Check(admin.DeleteTopic("made"))
	missing := admin.DeleteTopic("made")
	story.Expect(errors.Is(missing, sarama.ErrUnknownTopicOrPartition), "twice: %v", missing)
}

func settings(_ context.Context, bootstrap string, version sarama.KafkaVersion) {
	makeTopic(bootstrap, version, "set", 1)
	admin := administrator(bootstrap, version)
	defer admin.Close()
	found := func(key string) sarama.ConfigEntry {
		entries := story.Must(admin.DescribeConfig(
			sarama.ConfigResource{Type: sarama.TopicResource, Name: "set"}))
		at := slices.IndexFunc(entries, func(e sarama.ConfigEntry) bool { return e.Name == key })
		story.Expect(at >= 0, "%s is not described", key)
		return entries[at]
	}
	story.Equal(found("retention.ms").Source, sarama.SourceDefault, "a default")
	day, compact := "86400000", "compact"
	story.Check(admin.AlterConfig(sarama.TopicResource, "set",
		map[string]*string{"retention.ms": &day}, false))
	story.Equal(found("retention.ms").Value, day, "retention.ms")
	story.Equal(found("retention.ms").Source, sarama.SourceTopic, "its own")
	if version.IsAtLeast(sarama.V2_3_0_0) {
		story.Check(admin.IncrementalAlterConfig(sarama.TopicResource, "set",
			map[string]sarama.IncrementalAlterConfigsEntry{
				"cleanup.policy": {
					Operation: sarama.IncrementalAlterConfigsOperationAppend, Value: &compact,
				},
				"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationDelete},
			}, false))
		story.Equal(found("cleanup.policy").Value, "delete,compact", "cleanup.policy")
		story.Equal(found("retention.ms").Source, sarama.SourceDefault, "given back")
	}
	node := story.Must(admin.DescribeConfig(
		sarama.ConfigResource{Type: sarama.BrokerResource, Name: "1"}))
	story.Expect(len(node) > 20, "%d settings of the node", len(node))
}

// groups: offsets that are set, a member that reads on from there, and the end of the group.
func groups(ctx context.Context, bootstrap string, version sarama.KafkaVersion) {
	makeTopic(bootstrap, version, "shared", 2)
	sendOnce(bootstrap, config(version), messages("shared", 0, 20, 2))
	admin := administrator(bootstrap, version)
	defer admin.Close()
	set := story.Must(admin.AlterConsumerGroupOffsets("sarama",
		map[string]map[int32]sarama.OffsetAndMetadata{
			"shared": {0: {Offset: 4, Metadata: "m"}, 1: {Offset: 10}},
		}, nil))
	story.Equal(set.Errors["shared"][0], sarama.ErrNoError, "set")
	one := join(ctx, bootstrap, config(version))
	story.Until(ctx, "what is behind the offsets", func() bool {
		_, seen := one.counts()
		_, err := admin.ListConsumerGroups()
		return err == nil && seen == 6
	})
	story.Equal(story.Must(admin.ListConsumerGroups()), map[string]string{"sarama": "consumer"}, "")
	described := story.Must(admin.DescribeConsumerGroups([]string{"sarama"}))[0]
	story.Equal(described.State, "Stable", "state")
	for _, member := range described.Members {
		assigned := story.Must(member.GetMemberAssignment())
		story.Equal(len(assigned.Topics["shared"]), 2, "partitions of the member")
	}
	one.leave()
	found := story.Must(admin.ListConsumerGroupOffsets("sarama", nil))
	story.Equal(found.GetBlock("shared", 0).Offset, int64(10), "committed at the end")
	story.Check(admin.DeleteConsumerGroupOffset("sarama", "shared", 1))
	found = story.Must(admin.ListConsumerGroupOffsets("sarama", nil))
	story.Expect(found.GetBlock("shared", 1) == nil, "the offset is still there")
	story.Check(admin.DeleteConsumerGroup("sarama"))
	story.Equal(len(story.Must(admin.ListConsumerGroups())), 0, "groups")
}

// theRest is what an exporter asks for besides: nodes, sizes, quotas, rules, moves.
func theRest(_ context.Context, bootstrap string, version sarama.KafkaVersion) {
	makeTopic(bootstrap, version, "rest", 2)
	sendOnce(bootstrap, config(version), messages("rest", 0, 100, 2))
	admin := administrator(bootstrap, version)
	defer admin.Close()
	nodes, controller, err := admin.DescribeCluster()
	story.Check(err)
	story.Equal(len(nodes), 1, "nodes")
	story.Equal(nodes[0].ID(), controller, "the controller")
	dirs := story.Must(admin.DescribeLogDirs([]int32{controller}))
	story.Equal(len(dirs[controller][0].Topics), 1, "topics on disk")
	any := sarama.AclFilter{
		ResourceType: sarama.AclResourceAny, Operation: sarama.AclOperationAny,
		PermissionType: sarama.AclPermissionAny,
	}
	rules, err := admin.ListAcls(any)
	story.Equal(len(rules), 0, "rules")
	story.Expect(err == nil || errors.Is(err, sarama.ErrSecurityDisabled), "rules: %v", err)
	if !version.IsAtLeast(sarama.V2_7_0_0) {
		return
	}
	story.Check(admin.AlterClientQuotas(
		[]sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityClientID, Name: "s"}},
		sarama.ClientQuotasOp{Key: "producer_byte_rate", Value: 1e9}, false))
	quotas := story.Must(admin.DescribeClientQuotas(
		[]sarama.QuotaFilterComponent{{
			EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchAny,
		}}, false))
	story.Equal(quotas[0].Values["producer_byte_rate"], 1e9, "quota")
	moves := story.Must(admin.ListPartitionReassignments("rest", []int32{0, 1}))
	story.Equal(len(moves), 0, "moves")
	led := story.Must(admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{"rest": {0}}))
	story.Equal(led["rest"][0].ErrorCode, sarama.ErrElectionNotNeeded, "election")
	users := story.Must(admin.DescribeUserScramCredentials(nil))
	story.Equal(len(users), 0, "users")
}
