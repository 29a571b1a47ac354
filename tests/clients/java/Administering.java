// Stories of the Admin client: topics, settings, groups and their offsets, records, quotas, the
// cluster. Must leave the settings of the node as they were: other stories are told beside these.

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.FeatureMetadata;
import org.apache.kafka.clients.admin.ListConsumerGroupsOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ConsumerGroupState;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

final class Administering {
    static void topics_are_made_listed_described_and_deleted(Node node) throws Exception {
        try (Admin admin = node.admin()) {
            var made = admin.createTopics(List.of(new NewTopic("made", 3, (short) 1)
                    .configs(Map.of("retention.ms", "86400000"))));
            made.all().get();
            Node.expectEqual(3, made.numPartitions("made").get());
            Node.expectEqual("86400000", made.config("made").get().get("retention.ms").value());
            Node.expectFailure(TopicExistsException.class, () ->
                    admin.createTopics(List.of(new NewTopic("made", 3, (short) 1))).all().get());
            Node.expect(admin.listTopics().names().get().contains("made"), "it is listed");
            TopicDescription description =
                    admin.describeTopics(List.of("made")).allTopicNames().get().get("made");
            Node.expectEqual(3, description.partitions().size());
            Node.expectEqual(made.topicId("made").get(), description.topicId());
            Node.expectEqual(1, description.partitions().get(0).isr().size());
            admin.deleteTopics(List.of("made")).all().get();
            Node.expect(!admin.listTopics().names().get().contains("made"), "it is gone");
            Node.expectFailure(UnknownTopicOrPartitionException.class, () ->
                    admin.describeTopics(List.of("made")).allTopicNames().get());
        }
    }

    static void partitions_are_added_and_never_taken(Node node) throws Exception {
        node.makeTopic("grows", 2);
        try (Admin admin = node.admin()) {
            admin.createPartitions(Map.of("grows", NewPartitions.increaseTo(5))).all().get();
            Node.expectEqual(5, admin.describeTopics(List.of("grows")).allTopicNames().get()
                    .get("grows").partitions().size());
            Node.expectFailure(InvalidPartitionsException.class, () -> admin.createPartitions(
                    Map.of("grows", NewPartitions.increaseTo(3))).all().get());
        }
        node.sendNumbers("grows", 4, 0, 3);
        Node.expectEqual(Node.numbers(0, 3), node.read("grows", 4, 3));
    }

    static void settings_of_a_topic_are_described_altered_and_given_back(Node node)
            throws Exception {
        node.makeTopic("settings", 1);
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, "settings");
        try (Admin admin = node.admin()) {
            ConfigEntry before = configOf(admin, topic).get("retention.ms");
            Node.expect(before.isDefault(), "not set: " + before);
            alter(admin, topic, "retention.ms", "1234567", AlterConfigOp.OpType.SET);
            ConfigEntry set = configOf(admin, topic).get("retention.ms");
            Node.expectEqual("1234567", set.value());
            Node.expectEqual(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, set.source());
            alter(admin, topic, "cleanup.policy", "compact", AlterConfigOp.OpType.APPEND);
            Node.expectEqual("delete,compact",
                    configOf(admin, topic).get("cleanup.policy").value());
            alter(admin, topic, "retention.ms", "", AlterConfigOp.OpType.DELETE);
            Node.expectEqual(before.value(), configOf(admin, topic).get("retention.ms").value());
            Node.expectFailure(org.apache.kafka.common.errors.InvalidConfigurationException.class,
                    () -> alter(admin, topic, "retention.ms", "soon", AlterConfigOp.OpType.SET));
        }
    }

    static void settings_of_the_node_are_described(Node node) throws Exception {
        try (Admin admin = node.admin()) {
            String id = admin.describeCluster().nodes().get().iterator().next().idString();
            Config config = configOf(admin, new ConfigResource(ConfigResource.Type.BROKER, id));
            Node.expect(config.get("log.retention.ms") != null, "it has: " + config.entries());
        }
    }

    private static Config configOf(Admin admin, ConfigResource resource) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static void alter(
            Admin admin, ConfigResource resource, String name, String value,
            AlterConfigOp.OpType kind) throws Exception {
        Collection<AlterConfigOp> one = List.of(
                new AlterConfigOp(new ConfigEntry(name, value), kind));
        admin.incrementalAlterConfigs(Map.of(resource, one)).all().get();
    }

    static void a_group_is_listed_described_and_deleted_when_it_is_empty(Node node)
            throws Exception {
        node.makeTopic("grouped", 1);
        node.sendNumbers("grouped", 0, 0, 5);
        try (Admin admin = node.admin()) {
            try (KafkaConsumer<String, String> consumer = node.consumer(
                    "group.id", "grouped", "client.id", "reader")) {
                consumer.subscribe(List.of("grouped"));
                Node.poll(5, consumer);
                consumer.commitSync();
                Node.expect(admin.listConsumerGroups().all().get().stream()
                        .anyMatch(group -> group.groupId().equals("grouped")), "it is listed");
                ConsumerGroupDescription group = describe(admin, "grouped");
                Node.expectEqual("reader", group.members().iterator().next().clientId());
                Node.expectEqual(Set.of(new TopicPartition("grouped", 0)),
                        group.members().iterator().next().assignment().topicPartitions());
                Node.expectFailure(GroupNotEmptyException.class, () ->
                        admin.deleteConsumerGroups(List.of("grouped")).all().get());
            }
            Node.expectEqual(0, describe(admin, "grouped").members().size());
            admin.deleteConsumerGroups(List.of("grouped")).all().get();
            Node.expectFailure(GroupIdNotFoundException.class, () ->
                    admin.deleteConsumerGroups(List.of("grouped")).all().get());
        }
    }

    private static ConsumerGroupDescription describe(Admin admin, String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
    }

    static void offsets_of_a_group_are_altered_listed_and_deleted(Node node) throws Exception {
        node.makeTopic("moved", 2);
        node.sendNumbers("moved", 0, 0, 10);
        TopicPartition first = new TopicPartition("moved", 0);
        TopicPartition second = new TopicPartition("moved", 1);
        try (Admin admin = node.admin()) {
            admin.alterConsumerGroupOffsets("moved", Map.of(
                    first, new OffsetAndMetadata(7), second, new OffsetAndMetadata(0))).all().get();
            Map<TopicPartition, OffsetAndMetadata> offsets = admin
                    .listConsumerGroupOffsets("moved").partitionsToOffsetAndMetadata().get();
            Node.expectEqual(7L, offsets.get(first).offset());
            admin.deleteConsumerGroupOffsets("moved", Set.of(second)).all().get();
            Node.expectEqual(Set.of(first), admin.listConsumerGroupOffsets("moved")
                    .partitionsToOffsetAndMetadata().get().keySet());
        }
        try (KafkaConsumer<String, String> consumer = node.consumer("group.id", "moved")) {
            consumer.subscribe(List.of("moved"));
            Node.expectEqual(Node.numbers(7, 10), Node.values(Node.poll(3, consumer)));
        }
    }

    static void records_are_deleted_up_to_an_offset(Node node) throws Exception {
        node.makeTopic("trimmed", 1);
        node.sendNumbers("trimmed", 0, 0, 10);
        TopicPartition partition = new TopicPartition("trimmed", 0);
        try (Admin admin = node.admin()) {
            Node.expectEqual(4L, admin.deleteRecords(
                    Map.of(partition, RecordsToDelete.beforeOffset(4)))
                    .lowWatermarks().get(partition).get().lowWatermark());
            Node.expectEqual(4L, offset(admin, partition, OffsetSpec.earliest()));
            Node.expectEqual(10L, offset(admin, partition, OffsetSpec.latest()));
        }
        Node.expectEqual(Node.numbers(4, 10), node.read("trimmed", 0, 6));
    }

    static void the_record_with_the_newest_time_is_found(Node node) throws Exception {
        node.makeTopic("newest", 1);
        try (KafkaProducer<String, String> producer = node.producer()) {
            for (long time : new long[] {100, 900, 500}) {
                producer.send(new ProducerRecord<>("newest", 0, time, null, "" + time));
            }
        }
        try (Admin admin = node.admin()) {
            TopicPartition partition = new TopicPartition("newest", 0);
            Node.expectEqual(1L, offset(admin, partition, OffsetSpec.maxTimestamp()));
            Node.expectEqual(1L, offset(admin, partition, OffsetSpec.forTimestamp(600)));
        }
    }

    private static long offset(Admin admin, TopicPartition partition, OffsetSpec spec)
            throws Exception {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset();
    }

    static void the_cluster_is_described_with_its_features(Node node) throws Exception {
        try (Admin admin = node.admin()) {
            DescribeClusterResult cluster = admin.describeCluster();
            Node.expectEqual(1, cluster.nodes().get().size());
            Node.expectEqual(node.bootstrap, cluster.controller().get().host() + ":"
                    + cluster.controller().get().port());
            Node.expect(!cluster.clusterId().get().isEmpty(), "a cluster has an id");
            FeatureMetadata features = admin.describeFeatures().featureMetadata().get();
            Node.expectEqual((short) 2,
                    features.finalizedFeatures().get("transaction.version").maxVersionLevel());
        }
    }

    static void log_dirs_tell_the_size_of_partitions(Node node) throws Exception {
        node.makeTopic("sized", 1);
        node.sendNumbers("sized", 0, 0, 100);
        TopicPartition partition = new TopicPartition("sized", 0);
        try (Admin admin = node.admin()) {
            int id = admin.describeCluster().nodes().get().iterator().next().id();
            Map<String, LogDirDescription> dirs =
                    admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id);
            Node.expectEqual(1, dirs.size());
            LogDirDescription dir = dirs.values().iterator().next();
            Node.expect(dir.replicaInfos().get(partition).size() > 0, "100 records take space");
            Node.expect(dir.totalBytes().orElse(0) > 0, "the device has a size");
        }
    }

    static void quotas_are_set_described_and_removed(Node node) throws Exception {
        ClientQuotaEntity entity = new ClientQuotaEntity(
                Map.of(ClientQuotaEntity.CLIENT_ID, "greedy"));
        ClientQuotaFilter filter = ClientQuotaFilter.contains(List.of(
                ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, "greedy")));
        try (Admin admin = node.admin()) {
            quota(admin, entity, 1_048_576.0);
            Node.expectEqual(Map.of("producer_byte_rate", 1_048_576.0),
                    admin.describeClientQuotas(filter).entities().get().get(entity));
            quota(admin, entity, null);
            Node.expectEqual(Map.of(), admin.describeClientQuotas(filter).entities().get());
        }
    }

    private static void quota(Admin admin, ClientQuotaEntity entity, Double value)
            throws Exception {
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, List.of(
                new ClientQuotaAlteration.Op("producer_byte_rate", value))))).all()
                .get(30, TimeUnit.SECONDS);
    }

    static void topics_are_described_and_deleted_by_id(Node node) throws Exception {
        node.makeTopic("by-id", 1);
        try (Admin admin = node.admin()) {
            Uuid id = admin.describeTopics(List.of("by-id")).allTopicNames().get()
                    .get("by-id").topicId();
            Node.expectEqual("by-id", admin.describeTopics(TopicCollection.ofTopicIds(List.of(id)))
                    .allTopicIds().get().get(id).name());
            admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
            Node.expectFailure(UnknownTopicIdException.class, () -> admin.describeTopics(
                    TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get());
        }
    }

    static void a_setting_of_the_node_holds_for_its_topics(Node node) throws Exception {
        node.makeTopic("inherits", 1);
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, "inherits");
        ConfigResource all = new ConfigResource(ConfigResource.Type.BROKER, "");
        try (Admin admin = node.admin()) {
            String before = configOf(admin, topic).get("segment.ms").value();
            alter(admin, all, "log.roll.ms", "86400001", AlterConfigOp.OpType.SET);
            ConfigEntry held = configOf(admin, topic).get("segment.ms");
            alter(admin, all, "log.roll.ms", "", AlterConfigOp.OpType.DELETE);
            Node.expectEqual("86400001", held.value());
            Node.expectEqual(ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, held.source());
            Node.expectEqual(before, configOf(admin, topic).get("segment.ms").value());
        }
    }

    static void a_static_member_is_removed_by_the_admin(Node node) throws Exception {
        node.makeTopic("evicted", 1);
        try (Admin admin = node.admin(); KafkaConsumer<String, String> consumer = node.consumer(
                "group.id", "evicted", "group.instance.id", "one")) {
            consumer.subscribe(List.of("evicted"));
            Node.pollUntil(new ArrayList<>(), () -> consumer.assignment().size() == 1,
                    "its partition", consumer);
            consumer.commitSync(Map.of(
                    new TopicPartition("evicted", 0), new OffsetAndMetadata(0)));
            List<MemberToRemove> gone = List.of(new MemberToRemove("one"));
            admin.removeMembersFromConsumerGroup("evicted",
                    new RemoveMembersFromConsumerGroupOptions(gone)).all().get();
            Node.expectEqual(0, describe(admin, "evicted").members().size());
        }
    }

    static void leaders_are_elected_and_nothing_is_reassigned(Node node) throws Exception {
        node.makeTopic("led", 1);
        TopicPartition partition = new TopicPartition("led", 0);
        try (Admin admin = node.admin()) {
            Node.expectFailure(ElectionNotNeededException.class, () -> {
                Map<TopicPartition, Optional<Throwable>> ends = admin.electLeaders(
                        ElectionType.PREFERRED, Set.of(partition)).partitions().get();
                throw ends.get(partition).orElseThrow();
            });
            Node.expectEqual(Map.of(), admin.listPartitionReassignments().reassignments().get());
            Node.expectEqual(1, admin.describeMetadataQuorum().quorumInfo().get().voters().size());
        }
    }

    static void operations_that_are_allowed_are_told(Node node) throws Exception {
        node.makeTopic("allowed", 1);
        try (Admin admin = node.admin()) {
            Node.expect(admin.describeTopics(List.of("allowed"), new DescribeTopicsOptions()
                    .includeAuthorizedOperations(true)).allTopicNames().get().get("allowed")
                    .authorizedOperations().contains(AclOperation.WRITE), "of a topic");
            Node.expect(admin.describeCluster(new DescribeClusterOptions()
                    .includeAuthorizedOperations(true)).authorizedOperations().get()
                    .contains(AclOperation.CREATE), "of the cluster");
            Node.expectEqual(null, admin.describeTopics(List.of("allowed")).allTopicNames().get()
                    .get("allowed").authorizedOperations());
        }
    }

    static void groups_are_listed_by_state_and_type(Node node) throws Exception {
        node.makeTopic("sorted", 1);
        try (Admin admin = node.admin(); KafkaConsumer<String, String> consumer = node.consumer(
                "group.id", "sorted", "group.protocol", "classic")) {
            consumer.subscribe(List.of("sorted"));
            Node.pollUntil(new ArrayList<>(), () -> consumer.assignment().size() == 1,
                    "its partition", consumer);
            Node.expect(isListed(admin, ConsumerGroupState.STABLE, GroupType.CLASSIC), "as it is");
            Node.expect(!isListed(admin, ConsumerGroupState.EMPTY, GroupType.CLASSIC), "not empty");
            Node.expect(!isListed(admin, ConsumerGroupState.STABLE, GroupType.CONSUMER), "not new");
        }
    }

    private static boolean isListed(Admin admin, ConsumerGroupState state, GroupType type)
            throws Exception {
        return admin.listConsumerGroups(new ListConsumerGroupsOptions().inStates(Set.of(state))
                .withTypes(Set.of(type))).all().get().stream()
                .anyMatch(group -> group.groupId().equals("sorted"));
    }

    static void offsets_of_tiers_are_those_of_a_node_without_tiers(Node node) throws Exception {
        node.makeTopic("tiers", 1);
        node.sendNumbers("tiers", 0, 0, 5);
        TopicPartition partition = new TopicPartition("tiers", 0);
        try (Admin admin = node.admin()) {
            Node.expectEqual(0L, offset(admin, partition, OffsetSpec.earliestLocal()));
            Node.expectEqual(-1L, offset(admin, partition, OffsetSpec.latestTiered()));
        }
    }

    private Administering() {}
}
