// Stories of what only the client of Kafka 4 speaks: groups in which the node assigns the
// partitions (KIP-848), transactions with an epoch each (KIP-890). Never compiled against an older
// client.

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;

final class Kafka4 {
    private static final String[] NEW = {"group.protocol", "consumer"};

    static void the_node_shares_partitions_and_gives_them_back_when_one_leaves(Node node)
            throws Exception {
        Consuming.share(node, "assigned", NEW);
    }

    static void a_new_group_goes_on_at_its_commit(Node node) throws Exception {
        Consuming.goOn(node, "new-go-on", NEW);
    }

    static void the_range_assignor_of_the_node_is_chosen_by_name(Node node) throws Exception {
        Consuming.share(node, "ranged", "group.protocol", "consumer",
                "group.remote.assignor", "range");
    }

    static void a_new_group_is_described_as_one(Node node) throws Exception {
        node.makeTopic("described", 2);
        try (KafkaConsumer<String, String> consumer = node.consumer(
                        "group.protocol", "consumer", "group.id", "described");
                Admin admin = node.admin()) {
            consumer.subscribe(List.of("described"));
            Node.pollUntil(new ArrayList<>(), () -> consumer.assignment().size() == 2,
                    "two partitions", consumer);
            ConsumerGroupDescription group = admin.describeConsumerGroups(List.of("described"))
                    .describedGroups().get("described").get();
            Node.expectEqual(GroupType.CONSUMER, group.type());
            Node.expectEqual(GroupState.STABLE, group.groupState());
            Node.expectEqual(1, group.members().size());
            Node.expectEqual(
                    Set.of(new TopicPartition("described", 0), new TopicPartition("described", 1)),
                    group.members().iterator().next().assignment().topicPartitions());
            Node.expect(admin.listGroups().all().get().stream().anyMatch(
                    one -> one.groupId().equals("described")
                            && one.type().orElse(null) == GroupType.CONSUMER), "it is listed");
        }
    }

    static void topics_are_found_by_a_pattern_that_the_node_matches(Node node) throws Exception {
        node.makeTopic("metered-1", 1);
        node.makeTopic("metered-2", 1);
        node.makeTopic("unmetered", 1);
        try (KafkaConsumer<String, String> consumer = node.consumer(
                "group.protocol", "consumer", "group.id", "metered")) {
            consumer.subscribe(new SubscriptionPattern("metered-.*"));
            Node.pollUntil(new ArrayList<>(), () -> consumer.assignment().equals(Set.of(
                    new TopicPartition("metered-1", 0), new TopicPartition("metered-2", 0))),
                    "the topics that match", consumer);
            node.makeTopic("metered-3", 1);
            Node.pollUntil(new ArrayList<>(), () -> consumer.assignment().size() == 3,
                    "the topic that is new", consumer);
        }
    }

    static void a_static_member_of_a_new_group_is_back_with_its_partitions(Node node)
            throws Exception {
        node.makeTopic("new-static", 4);
        String[] goes = {"group.protocol", "consumer", "group.id", "new-static",
                "group.instance.id", "goes"};
        KafkaConsumer<String, String> stays = node.consumer("group.protocol", "consumer",
                "group.id", "new-static", "group.instance.id", "stays");
        KafkaConsumer<String, String> first = node.consumer(goes);
        stays.subscribe(List.of("new-static"));
        first.subscribe(List.of("new-static"));
        List<ConsumerRecord<String, String>> seen = new ArrayList<>();
        Node.pollUntil(seen, () -> stays.assignment().size() == 2
                && first.assignment().size() == 2, "two partitions each", stays, first);
        Set<TopicPartition> before = new HashSet<>(first.assignment());
        try (KafkaConsumer<String, String> twin = node.consumer(goes)) {
            twin.subscribe(List.of("new-static"));
            Node.expectFailure(UnreleasedInstanceIdException.class, () ->
                    Node.pollUntil(seen, () -> false, "a refusal", twin));
        }
        first.close();
        try (KafkaConsumer<String, String> back = node.consumer(goes)) {
            back.subscribe(List.of("new-static"));
            Node.pollUntil(seen, () -> back.assignment().size() == 2, "its own", stays, back);
            Node.expectEqual(before, back.assignment());
            Node.expectEqual(2, stays.assignment().size());
        }
        stays.close();
    }

    static void a_transaction_commits_offsets_of_a_new_group(Node node) throws Exception {
        node.makeTopic("new-in", 1);
        node.sendNumbers("new-in", 0, 0, 10);
        TopicPartition partition = new TopicPartition("new-in", 0);
        try (KafkaConsumer<String, String> consumer = node.consumer(
                        "group.protocol", "consumer", "group.id", "new-workers");
                KafkaProducer<String, String> producer = node.producer(
                        "transactional.id", "new-worker")) {
            producer.initTransactions();
            consumer.subscribe(List.of("new-in"));
            Node.poll(10, consumer);
            producer.beginTransaction();
            producer.send(new ProducerRecord<>("new-out", "done"));
            producer.sendOffsetsToTransaction(
                    Map.of(partition, new OffsetAndMetadata(10)), consumer.groupMetadata());
            producer.commitTransaction();
            Node.expectEqual(10L, consumer.committed(Set.of(partition)).get(partition).offset());
        }
    }

    static void a_group_moves_from_the_old_protocol_to_the_new_and_back(Node node)
            throws Exception {
        node.makeTopic("moves", 1);
        int first = 0;
        for (String protocol : List.of("classic", "consumer", "classic")) {
            node.sendNumbers("moves", 0, first, first + 5);
            try (KafkaConsumer<String, String> consumer = node.consumer(
                    "group.protocol", protocol, "group.id", "moves")) {
                consumer.subscribe(List.of("moves"));
                Node.expectEqual(Node.numbers(first, first + 5),
                        Node.values(Node.poll(5, consumer)));
                consumer.commitSync();
            }
            first += 5;
        }
    }

    static void each_transaction_has_an_epoch_of_its_own(Node node) throws Exception {
        node.makeTopic("epochs", 1);
        TopicPartition partition = new TopicPartition("epochs", 0);
        try (Admin admin = node.admin();
                KafkaProducer<String, String> producer = node.producer(
                        "transactional.id", "epochs")) {
            producer.initTransactions();
            for (int epoch = 0; epoch < 3; epoch++) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>("epochs", 0, null, "" + epoch)).get();
                Node.expectEqual(epoch, admin.describeProducers(List.of(partition))
                        .partitionResult(partition).get().activeProducers().get(0)
                        .producerEpoch());
                producer.commitTransaction();
            }
        }
    }

    private Kafka4() {}
}
