// Stories of pipelines of Apache Beam that write with KafkaIO: at least once, with headers and
// times, and exactly once, where the sink keeps its own state in the metadata of committed offsets.

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.coders.KvCoder;
import org.apache.beam.sdk.coders.StringUtf8Coder;
import org.apache.beam.sdk.io.kafka.KafkaIO;
import org.apache.beam.sdk.io.kafka.KafkaRecord;
import org.apache.beam.sdk.transforms.Create;
import org.apache.beam.sdk.transforms.DoFn;
import org.apache.beam.sdk.transforms.ParDo;
import org.apache.beam.sdk.transforms.Values;
import org.apache.beam.sdk.values.KV;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.StringSerializer;

final class BeamWriting {
    private static final String[] COMMITTED = {"isolation.level", "read_committed"};

    static void what_a_pipeline_wrote_is_there(Node node) throws Exception {
        node.makeTopic("beam-written", 1);
        List<KV<String, String>> pairs = new ArrayList<>();
        for (int number = 0; number < 500; number++) {
            pairs.add(KV.of("k" + number % 7, "" + number));
        }
        Pipeline pipeline = Pipelines.create();
        pipeline.apply(Create.of(pairs).withCoder(
                        KvCoder.of(StringUtf8Coder.of(), StringUtf8Coder.of())))
                .apply(KafkaIO.<String, String>write()
                        .withBootstrapServers(node.bootstrap)
                        .withTopic("beam-written")
                        .withKeySerializer(StringSerializer.class)
                        .withValueSerializer(StringSerializer.class));
        Pipelines.finish(pipeline);
        expectNumbers(500, node.read("beam-written", 0, 500));
    }

    static void records_keep_their_headers_and_times(Node node) throws Exception {
        node.makeTopic("beam-from", 1);
        node.makeTopic("beam-to", 1);
        node.sendNumbers("beam-from", 0, 0, 20);
        Pipeline pipeline = Pipelines.create();
        pipeline.apply(Pipelines.read(node, "beam-from").withMaxNumRecords(20))
                .apply(ParDo.of(new Stamp("beam-to")))
                .setCoder(Pipelines.recordCoder())
                .apply(KafkaIO.<String, String>writeRecords()
                        .withBootstrapServers(node.bootstrap)
                        .withTopic("beam-to")
                        .withKeySerializer(StringSerializer.class)
                        .withValueSerializer(StringSerializer.class));
        Pipelines.finish(pipeline);
        Pipeline again = Pipelines.create();
        Pipelines.keep("beam-to",
                again.apply(Pipelines.read(node, "beam-to").withMaxNumRecords(20)));
        Pipelines.finish(again);
        List<String> seen = new ArrayList<>();
        for (String line : Pipelines.kept("beam-to")) {
            seen.add(line.substring(line.indexOf(' ') + 1));
        }
        List<String> wanted = new ArrayList<>();
        for (int number = 0; number < 20; number++) {
            wanted.add("key=" + number + " from:" + number);
        }
        Collections.sort(wanted);
        Collections.sort(seen);
        Node.expectEqual(wanted, seen);
        try (var consumer = node.consumer()) {
            TopicPartition to = new TopicPartition("beam-to", 0);
            consumer.assign(List.of(to));
            Node.poll(20, consumer).forEach(record -> Node.expectEqual(
                    1_600_000_000_000L + Integer.parseInt(record.value()), record.timestamp()));
        }
    }

    /** A record with a key, a header and a time of its own. */
    private static final class Stamp
            extends DoFn<KafkaRecord<String, String>, ProducerRecord<String, String>> {
        private static final long serialVersionUID = 1;
        private final String topic;

        Stamp(String topic) {
            this.topic = topic;
        }

        @ProcessElement
        public void process(
                @Element KafkaRecord<String, String> record,
                OutputReceiver<ProducerRecord<String, String>> out) {
            String value = record.getKV().getValue();
            RecordHeaders headers = new RecordHeaders();
            headers.add("from", ("" + record.getOffset()).getBytes());
            long time = 1_600_000_000_000L + Integer.parseInt(value);
            out.output(new ProducerRecord<>(topic, 0, time, "key", value, headers));
        }
    }

    static void the_sink_of_exactly_once_writes_each_record_once(Node node) throws Exception {
        node.makeTopic("beam-once-in", 2);
        node.makeTopic("beam-once-out", 1);
        node.sendNumbers("beam-once-in", 0, 0, 150);
        node.sendNumbers("beam-once-in", 1, 150, 300);
        Pipeline pipeline = exactlyOnce(node, "beam-once-in", "beam-once-out", "beam-once");
        TopicPartition out = new TopicPartition("beam-once-out", 0);
        try (var reader = node.consumer(COMMITTED)) {
            reader.assign(List.of(out));
            List<String> seen = new ArrayList<>();
            Pipelines.runUntil(pipeline, "300 committed records", () -> {
                reader.poll(java.time.Duration.ofMillis(100)).forEach(r -> seen.add(r.value()));
                return seen.size() >= 300;
            });
        }
        expectNumbers(300, node.read("beam-once-out", 0, 300, COMMITTED));
        // The sink's state stands beside the offsets of its group.
        try (Admin admin = node.admin()) {
            Map<TopicPartition, OffsetAndMetadata> state = admin
                    .listConsumerGroupOffsets("beam-once").partitionsToOffsetAndMetadata().get();
            Node.expect(!state.isEmpty(), "the group of the sink has committed nothing");
            for (OffsetAndMetadata shard : state.values()) {
                Node.expect(shard.metadata().contains("\"seq\""), "metadata: " + shard.metadata());
            }
            Node.expectEqual(Set.of("beam-once-out"), topics(state.keySet()));
        }
    }

    private static Set<String> topics(Set<TopicPartition> partitions) {
        Set<String> topics = new java.util.TreeSet<>();
        partitions.forEach(partition -> topics.add(partition.topic()));
        return topics;
    }

    static Pipeline exactlyOnce(Node node, String from, String to, String group) {
        Pipeline pipeline = Pipelines.create();
        pipeline.apply(Pipelines.read(node, from).withReadCommitted().withoutMetadata())
                .apply(Values.create())
                .apply(KafkaIO.<Void, String>write()
                        .withBootstrapServers(node.bootstrap)
                        .withTopic(to)
                        .withValueSerializer(StringSerializer.class)
                        .withEOS(1, group)
                        .values());
        return pipeline;
    }

    private static void expectNumbers(int end, List<String> found) {
        List<String> wanted = Node.numbers(0, end);
        List<String> sorted = new ArrayList<>(found);
        Collections.sort(wanted);
        Collections.sort(sorted);
        Node.expectEqual(wanted, sorted);
    }

    private BeamWriting() {}
}
