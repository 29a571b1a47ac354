// Stories of KafkaConsumer: groups in the classic protocol, static members, positions. Must hold
// with the clients of Kafka 3 and 4 alike; the protocol of Kafka 4 is told in Kafka4.java.

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.record.TimestampType;

final class Consuming {
    static void two_consumers_share_four_partitions_and_rebalance_when_one_leaves(Node node)
            throws Exception {
        share(node, "share", "group.protocol", "classic");
    }

    static void a_cooperative_group_hands_over_what_moves_and_keeps_the_rest(Node node)
            throws Exception {
        share(node, "cooperative", "group.protocol", "classic",
                "partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
    }

    /** Two members share four partitions; when one leaves, the other has all of them. */
    static void share(Node node, String name, String... more) throws Exception {
        node.makeTopic(name, 4);
        for (int partition = 0; partition < 4; partition++) {
            node.sendNumbers(name, partition, 0, 10);
        }
        KafkaConsumer<String, String> one = member(node, name, more);
        KafkaConsumer<String, String> other = member(node, name, more);
        List<ConsumerRecord<String, String>> seen = new ArrayList<>();
        Node.pollUntil(seen, () -> one.assignment().size() == 2 && other.assignment().size() == 2,
                "two partitions each", one, other);
        Set<TopicPartition> all = new HashSet<>(one.assignment());
        all.addAll(other.assignment());
        Node.expectEqual(4, all.size());
        Node.pollUntil(seen, () -> Node.distinct(seen) == 40, "40 records", one, other);
        one.commitSync();
        other.commitSync();
        other.close();
        Node.pollUntil(seen, () -> one.assignment().size() == 4, "four partitions", one);
        for (int partition = 0; partition < 4; partition++) {
            node.sendNumbers(name, partition, 10, 15);
        }
        Node.pollUntil(seen, () -> Node.distinct(seen) == 60, "20 more records", one);
        one.close();
    }

    private static KafkaConsumer<String, String> member(Node node, String name, String... more) {
        List<String> all = new ArrayList<>(List.of(more));
        all.addAll(List.of("group.id", name));
        KafkaConsumer<String, String> consumer = node.consumer(all.toArray(new String[0]));
        consumer.subscribe(List.of(name));
        return consumer;
    }

    static void a_group_goes_on_at_its_commit(Node node) throws Exception {
        goOn(node, "go-on", "group.protocol", "classic");
    }

    /** A second consumer starts where the first has committed, with what it noted there. */
    static void goOn(Node node, String name, String... more) throws Exception {
        node.makeTopic(name, 1);
        node.sendNumbers(name, 0, 0, 20);
        TopicPartition partition = new TopicPartition(name, 0);
        try (KafkaConsumer<String, String> first = member(node, name, more)) {
            Node.expectEqual(Node.numbers(0, 20), Node.values(Node.poll(20, first)));
            first.commitSync(Map.of(partition, new OffsetAndMetadata(12, "note")));
        }
        try (KafkaConsumer<String, String> second = member(node, name, more)) {
            Node.expectEqual(Node.numbers(12, 20), Node.values(Node.poll(8, second)));
            OffsetAndMetadata kept = second.committed(Set.of(partition)).get(partition);
            Node.expectEqual(new OffsetAndMetadata(12, "note"), new OffsetAndMetadata(
                    kept.offset(), kept.metadata()));
            second.commitSync();
            Node.expectEqual(20L, second.committed(Set.of(partition)).get(partition).offset());
        }
    }

    static void a_group_that_commits_by_itself_commits_when_it_closes(Node node) throws Exception {
        node.makeTopic("auto", 1);
        node.sendNumbers("auto", 0, 0, 20);
        try (KafkaConsumer<String, String> first = member(node, "auto",
                "enable.auto.commit", "true", "auto.commit.interval.ms", "600000")) {
            Node.expectEqual(20, Node.poll(20, first).size());
        }
        node.sendNumbers("auto", 0, 20, 30);
        try (KafkaConsumer<String, String> second = member(node, "auto")) {
            Node.expectEqual(Node.numbers(20, 30), Node.values(Node.poll(10, second)));
        }
    }

    static void a_static_member_is_back_without_a_rebalance(Node node) throws Exception {
        node.makeTopic("static", 4);
        AtomicInteger losses = new AtomicInteger();
        KafkaConsumer<String, String> stays = node.consumer(
                "group.id", "static", "group.protocol", "classic", "group.instance.id", "stays");
        stays.subscribe(List.of("static"), new ConsumerRebalanceListener() {
            @Override public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                losses.incrementAndGet();
            }

            @Override public void onPartitionsAssigned(Collection<TopicPartition> come) {}
        });
        String[] moving = {"group.protocol", "classic", "group.instance.id", "goes"};
        KafkaConsumer<String, String> goes = member(node, "static", moving);
        List<ConsumerRecord<String, String>> seen = new ArrayList<>();
        Node.pollUntil(seen, () -> stays.assignment().size() == 2 && goes.assignment().size() == 2,
                "two partitions each", stays, goes);
        Set<TopicPartition> before = goes.assignment();
        int lossesBefore = losses.get();
        goes.close();
        KafkaConsumer<String, String> back = member(node, "static", moving);
        Node.pollUntil(seen, () -> back.assignment().size() == 2, "its partitions", stays, back);
        Node.expectEqual(before, back.assignment());
        Node.expectEqual(lossesBefore, losses.get());
        try (Admin admin = node.admin()) {
            Set<String> instances = new HashSet<>();
            for (MemberDescription member : admin.describeConsumerGroups(List.of("static"))
                    .describedGroups().get("static").get().members()) {
                instances.add(member.groupInstanceId().orElse("none"));
            }
            Node.expectEqual(Set.of("stays", "goes"), instances);
        }
        // A second process with the same name takes its place; the first must know.
        KafkaConsumer<String, String> twin = member(node, "static", moving);
        Node.expectFailure(FencedInstanceIdException.class, () ->
                Node.pollUntil(seen, () -> false, "a fence", stays, twin, back));
        stays.close();
        twin.close();
        back.close();
    }

    static void positions_are_found_by_offset_and_by_time(Node node) throws Exception {
        node.makeTopic("positions", 1);
        try (KafkaProducer<String, String> producer = node.producer()) {
            for (int number = 0; number < 50; number++) {
                producer.send(new ProducerRecord<>(
                        "positions", 0, 10_000L + number * 100, null, "" + number)).get();
            }
        }
        TopicPartition partition = new TopicPartition("positions", 0);
        try (KafkaConsumer<String, String> consumer = node.consumer()) {
            consumer.assign(List.of(partition));
            Set<TopicPartition> it = Set.of(partition);
            Node.expectEqual(0L, consumer.beginningOffsets(it).get(partition));
            Node.expectEqual(50L, consumer.endOffsets(it).get(partition));
            var found = consumer.offsetsForTimes(Map.of(partition, 12_050L)).get(partition);
            Node.expectEqual(21L, found.offset());
            Node.expectEqual(12_100L, found.timestamp());
            Node.expectEqual(null,
                    consumer.offsetsForTimes(Map.of(partition, 99_000L)).get(partition));
            consumer.seek(partition, 45);
            Node.expectEqual(Node.numbers(45, 50), Node.values(Node.poll(5, consumer)));
            Node.expectEqual(50L, consumer.position(partition));
            consumer.seekToBeginning(it);
            Node.expectEqual("0", Node.poll(1, consumer).get(0).value());
            consumer.seekToEnd(it);
            Node.expectEqual(50L, consumer.position(partition));
            Node.expectEqual(0L, consumer.currentLag(partition).orElse(0));
        }
    }

    static void a_position_out_of_range_is_told_or_reset(Node node) throws Exception {
        node.makeTopic("range", 1);
        node.sendNumbers("range", 0, 0, 5);
        TopicPartition partition = new TopicPartition("range", 0);
        try (KafkaConsumer<String, String> strict = node.consumer("auto.offset.reset", "none")) {
            strict.assign(List.of(partition));
            strict.seek(partition, 1_000);
            Node.expectFailure(OffsetOutOfRangeException.class, () -> Node.poll(1, strict));
        }
        try (KafkaConsumer<String, String> lenient = node.consumer()) {
            lenient.assign(List.of(partition));
            lenient.seek(partition, 1_000);
            Node.expectEqual(Node.numbers(0, 5), Node.values(Node.poll(5, lenient)));
        }
    }

    static void a_record_larger_than_a_fetch_still_comes(Node node) throws Exception {
        node.makeTopic("large", 1);
        try (KafkaProducer<String, String> producer = node.producer()) {
            producer.send(new ProducerRecord<>("large", "x".repeat(500_000))).get();
            producer.send(new ProducerRecord<>("large", "small")).get();
        }
        try (KafkaConsumer<String, String> consumer = node.consumer(
                "max.partition.fetch.bytes", "10000", "fetch.max.bytes", "10000")) {
            consumer.assign(List.of(new TopicPartition("large", 0)));
            List<String> values = Node.values(Node.poll(2, consumer));
            Node.expectEqual(500_000, values.get(0).length());
            Node.expectEqual("small", values.get(1));
        }
    }

    static void many_partitions_are_read_in_one_fetch_session(Node node) throws Exception {
        node.makeTopic("many", 60);
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < 60; partition++) {
            all.add(new TopicPartition("many", partition));
        }
        try (KafkaConsumer<String, String> consumer = node.consumer();
                KafkaProducer<String, String> producer = node.producer()) {
            consumer.assign(all);
            for (int round = 0; round < 3; round++) {
                for (TopicPartition partition : all) {
                    producer.send(new ProducerRecord<>(
                            "many", partition.partition(), null, "" + round));
                }
                producer.flush();
                Node.expectEqual(60L, Node.distinct(Node.poll(60, consumer)));
                // A partition that is paused leaves the session, and comes back to it.
                consumer.pause(all.subList(0, 30));
                producer.send(new ProducerRecord<>("many", 0, null, "paused"));
                producer.send(new ProducerRecord<>("many", 59, null, "not")).get();
                producer.flush();
                Node.expectEqual(List.of("not"), Node.values(Node.poll(1, consumer)));
                consumer.resume(all);
                Node.expectEqual(List.of("paused"), Node.values(Node.poll(1, consumer)));
            }
        }
    }

    static void a_topic_may_have_the_time_of_the_node(Node node) throws Exception {
        try (Admin admin = node.admin()) {
            admin.createTopics(List.of(new NewTopic("stamped", 1, (short) 1).configs(
                    Map.of("message.timestamp.type", "LogAppendTime")))).all().get();
        }
        long before = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = node.producer();
                KafkaConsumer<String, String> consumer = node.consumer()) {
            producer.send(new ProducerRecord<>("stamped", 0, 5L, null, "1")).get();
            consumer.assign(List.of(new TopicPartition("stamped", 0)));
            ConsumerRecord<String, String> record = Node.poll(1, consumer).get(0);
            Node.expectEqual(TimestampType.LOG_APPEND_TIME, record.timestampType());
            Node.expect(record.timestamp() >= before, "its time is " + record.timestamp());
        }
    }

    static void a_member_of_the_past_cannot_commit(Node node) throws Exception {
        node.makeTopic("past", 1);
        node.sendNumbers("past", 0, 0, 5);
        KafkaConsumer<String, String> slow = member(node, "past", "max.poll.interval.ms", "1000",
                "heartbeat.interval.ms", "300", "group.protocol", "classic");
        Node.poll(5, slow);
        KafkaConsumer<String, String> other = member(node, "past", "group.protocol", "classic");
        // The slow one leaves the group by itself, for it is not polled.
        Node.pollUntil(new ArrayList<>(), () -> other.assignment().size() == 1, "its place", other);
        Node.expectFailure(CommitFailedException.class, slow::commitSync);
        slow.close();
        other.close();
    }

    private Consuming() {}
}
