// Stories of pipelines of Apache Beam that read with KafkaIO, as a tutorial has it: by count, by
// time, committed only, shared out again, with offsets that the group finds afterwards.

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.io.kafka.KafkaIO;
import org.apache.beam.sdk.managed.Managed;
import org.apache.beam.sdk.transforms.MapElements;
import org.apache.beam.sdk.values.PCollection;
import org.apache.beam.sdk.values.Row;
import org.apache.beam.sdk.values.TypeDescriptors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.joda.time.Duration;
import org.joda.time.Instant;

final class BeamReading {
    private static final int PARTITIONS = 4;
    /** Later than any marker of a transaction, which has the node's time and is found by it. */
    private static final long TIME = System.currentTimeMillis() + 600_000;

    static void a_read_ends_after_as_many_records_as_it_was_told(Node node) throws Exception {
        fill(node, "beam-count", 100);
        Pipeline pipeline = Pipelines.create();
        Pipelines.keep("beam-count",
                pipeline.apply(Pipelines.read(node, "beam-count").withMaxNumRecords(400)));
        Pipelines.finish(pipeline);
        Node.expectEqual(lines(0, 100), Pipelines.kept("beam-count"));
    }

    static void a_read_of_some_partitions_leaves_the_others(Node node) throws Exception {
        fill(node, "beam-some", 20);
        Pipeline pipeline = Pipelines.create();
        List<TopicPartition> two =
                List.of(new TopicPartition("beam-some", 1), new TopicPartition("beam-some", 3));
        KafkaIO.Read<String, String> read = Pipelines.read(node, "beam-some");
        Pipelines.keep("beam-some", pipeline.apply(
                read.withTopics(List.of()).withTopicPartitions(two).withMaxNumRecords(40)));
        Pipelines.finish(pipeline);
        List<String> wanted = lines(0, 20);
        wanted.removeIf(line -> line.startsWith("0/") || line.startsWith("2/"));
        Node.expectEqual(wanted, Pipelines.kept("beam-some"));
    }

    static void what_came_between_two_times_is_read(Node node) throws Exception {
        fill(node, "beam-times", 50);
        Pipeline pipeline = Pipelines.create();
        Pipelines.keep("beam-times", pipeline.apply(Pipelines.read(node, "beam-times")
                .withStartReadTime(new Instant(time(10)))
                .withStopReadTime(new Instant(time(30)))));
        Pipelines.finish(pipeline);
        Node.expectEqual(lines(10, 30), Pipelines.kept("beam-times"));
    }

    static void offsets_are_committed_when_what_was_read_is_kept(Node node) throws Exception {
        fill(node, "beam-commits", 60);
        KafkaIO.Read<String, String> read = Pipelines.read(node, "beam-commits")
                .commitOffsetsInFinalize()
                .withConsumerConfigUpdates(Map.of("group.id", "beam-commits"));
        Pipeline pipeline = Pipelines.create();
        Pipelines.keep("beam-commits", pipeline.apply(read));
        int[] sent = {60};
        try (Admin admin = node.admin();
                KafkaProducer<String, String> producer = node.producer()) {
            Pipelines.runUntil(pipeline, "the first 60 of each partition to be committed", () -> {
                // This runner is done with some records only when it has read the next ones.
                if (Pipelines.kept("beam-commits").size() == sent[0] * PARTITIONS) {
                    send(producer, "beam-commits", sent[0], ++sent[0]);
                }
                List<Long> offsets = committed(admin, "beam-commits");
                return offsets.stream().filter(offset -> offset >= 60).count() == PARTITIONS;
            });
            send(producer, "beam-commits", sent[0], sent[0] + 11);
        }
        // The next pipeline of the group goes on where this one was; the last record ends it.
        int end = sent[0] + 10;
        Pipeline next = Pipelines.create();
        Pipelines.keep("beam-commits", next.apply(read.withStopReadTime(new Instant(time(end)))));
        Pipelines.finish(next);
        List<String> kept = Pipelines.kept("beam-commits");
        Node.expect(lines(60, end).containsAll(kept), "read again: " + kept);
        Node.expect(kept.containsAll(lines(sent[0], end)), "not read: " + kept);
    }

    private static List<Long> committed(Admin admin, String group) throws Exception {
        List<Long> offsets = new ArrayList<>();
        Map<TopicPartition, OffsetAndMetadata> found =
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        for (OffsetAndMetadata offset : found.values()) {
            if (offset != null) {
                offsets.add(offset.offset());
            }
        }
        return offsets;
    }

    static void what_was_aborted_is_not_read(Node node) throws Exception {
        node.makeTopic("beam-aborted", PARTITIONS);
        try (KafkaProducer<String, String> producer =
                node.producer("transactional.id", "beam-aborted")) {
            producer.initTransactions();
            for (int round = 0; round < 4; round++) {
                producer.beginTransaction();
                send(producer, "beam-aborted", round * 10, round * 10 + 10);
                producer.flush();
                if (round % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        List<String> wanted = new ArrayList<>();
        for (int partition = 0; partition < PARTITIONS; partition++) {
            for (int number = 0; number < 10; number++) {
                wanted.add(line(partition, number, number));
                // Behind a marker, ten that were aborted, and another marker.
                wanted.add(line(partition, number + 22, number + 20));
            }
        }
        Collections.sort(wanted);
        Pipeline pipeline = Pipelines.create();
        Pipelines.keep("beam-aborted", pipeline.apply("by count",
                Pipelines.read(node, "beam-aborted").withReadCommitted().withMaxNumRecords(80)));
        Pipelines.finish(pipeline);
        Node.expectEqual(wanted, Pipelines.kept("beam-aborted"));
        // By time it is another reader, which splits partitions by offsets.
        Pipeline timed = Pipelines.create();
        Pipelines.keep("beam-aborted", timed.apply("by time",
                Pipelines.read(node, "beam-aborted").withReadCommitted()
                        .withStartReadTime(new Instant(time(0)))
                        .withStopReadTime(new Instant(time(29)))));
        Pipelines.finish(timed);
        wanted.removeIf(line -> line.endsWith("=29"));
        Node.expectEqual(wanted, Pipelines.kept("beam-aborted"));
    }

    static void records_that_are_shared_out_again_are_all_there(Node node) throws Exception {
        fill(node, "beam-redistribute", 50);
        Pipeline pipeline = Pipelines.create();
        Pipelines.keep("beam-redistribute", pipeline.apply(Pipelines
                .read(node, "beam-redistribute")
                .withStartReadTime(new Instant(time(0)))
                .withStopReadTime(new Instant(time(40)))
                .withRedistribute()
                .withRedistributeNumKeys(3)));
        Pipelines.finish(pipeline);
        Node.expectEqual(lines(0, 40), Pipelines.kept("beam-redistribute"));
    }

    static void a_topic_that_appears_later_is_read_too(Node node) throws Exception {
        node.makeTopic("beam-dynamic-1", 1);
        node.sendNumbers("beam-dynamic-1", 0, 0, 10);
        Pipeline pipeline = Pipelines.create("beam_fn_api");
        KafkaIO.Read<String, String> read = Pipelines.read(node, "none").withTopics(List.of())
                .withTopicPattern("beam-dynamic-[0-9]")
                .withDynamicRead(Duration.millis(200));
        Pipelines.keep("beam-dynamic", pipeline.apply(read));
        boolean[] more = {false};
        Pipelines.runUntil(pipeline, "two topics", () -> {
            int seen = Pipelines.kept("beam-dynamic").size();
            if (seen == 10 && !more[0]) {
                more[0] = true;
                node.makeTopic("beam-dynamic-2", 1);
                node.sendNumbers("beam-dynamic-2", 0, 10, 20);
            }
            return seen >= 20;
        });
        List<String> wanted = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            wanted.add("0/" + number % 10 + " null=" + number);
        }
        Collections.sort(wanted);
        Node.expectEqual(wanted, Pipelines.kept("beam-dynamic"));
    }

    static void managed_io_writes_and_reads(Node node) throws Exception {
        node.makeTopic("beam-managed", 1);
        List<String> texts = Node.numbers(0, 50);
        Map<String, Object> where =
                Map.of("bootstrap_servers", node.bootstrap, "topic", "beam-managed");
        Map<String, Object> write = new HashMap<>(where);
        write.put("format", "RAW");
        Pipeline writer = Pipelines.create();
        writer.apply(Pipelines.rows(texts))
                .apply(Managed.write(Managed.KAFKA).withConfig(write));
        Pipelines.finish(writer);
        List<String> stored = new ArrayList<>(node.read("beam-managed", 0, 50));
        Collections.sort(stored);
        Collections.sort(texts);
        Node.expectEqual(texts, stored);

        Map<String, Object> read = new HashMap<>(where);
        read.put("format", "RAW");
        read.put("auto_offset_reset_config", "earliest");
        // Without an end of its own it reads for as long as this: enough on a busy machine.
        read.put("max_read_time_seconds", 8);
        Pipeline reader = Pipelines.create();
        PCollection<Row> rows =
                reader.apply(Managed.read(Managed.KAFKA).withConfig(read)).getSinglePCollection();
        Pipelines.keepTexts("beam-managed", rows.apply(MapElements.into(TypeDescriptors.strings())
                .via(row -> new String(row.getBytes("payload")))));
        Pipelines.finish(reader);
        Node.expectEqual(texts, Pipelines.kept("beam-managed"));
    }

    /** A topic whose partitions hold the numbers from 0 on, a second of time between them. */
    private static void fill(Node node, String topic, int end) throws Exception {
        node.makeTopic(topic, PARTITIONS);
        try (KafkaProducer<String, String> producer = node.producer()) {
            send(producer, topic, 0, end);
        }
    }

    private static void send(
            KafkaProducer<String, String> producer, String topic, int first, int end) {
        for (int partition = 0; partition < PARTITIONS; partition++) {
            for (int number = first; number < end; number++) {
                producer.send(new ProducerRecord<>(
                        topic, partition, time(number), "k" + partition, "" + number));
            }
        }
    }

    private static long time(int number) {
        return TIME + number * 1000L;
    }

    private static List<String> lines(int first, int end) {
        List<String> all = new ArrayList<>();
        for (int partition = 0; partition < PARTITIONS; partition++) {
            for (int number = first; number < end; number++) {
                all.add(line(partition, number, number));
            }
        }
        Collections.sort(all);
        return all;
    }

    private static String line(int partition, int offset, int number) {
        return partition + "/" + offset + " k" + partition + "=" + number;
    }

    private BeamReading() {}
}
