// What the stories of Beam share: a pipeline of the direct runner, which runs in this JVM, and a
// place where it puts what it saw. Never looks at the node by itself.

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.beam.runners.direct.DirectOptions;
import org.apache.beam.runners.direct.DirectRunner;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.PipelineResult;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.coders.StringUtf8Coder;
import org.apache.beam.sdk.io.kafka.KafkaIO;
import org.apache.beam.sdk.io.kafka.KafkaRecord;
import org.apache.beam.sdk.io.kafka.ProducerRecordCoder;
import org.apache.beam.sdk.options.ExperimentalOptions;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.schemas.Schema;
import org.apache.beam.sdk.transforms.Create;
import org.apache.beam.sdk.transforms.DoFn;
import org.apache.beam.sdk.transforms.ParDo;
import org.apache.beam.sdk.values.PCollection;
import org.apache.beam.sdk.values.Row;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;

final class Pipelines {
    /** The transforms are copied for each thread: what they saw is kept outside of them. */
    private static final Map<String, Queue<String>> SEEN = new ConcurrentHashMap<>();

    /** A pipeline; `experiments` are Beam's switches for what it does not do by default. */
    static Pipeline create(String... experiments) {
        DirectOptions options = PipelineOptionsFactory.create().as(DirectOptions.class);
        options.setRunner(DirectRunner.class);
        options.setBlockOnRun(false);
        // A reader of an open end holds its thread until a second has passed.
        options.setTargetParallelism(4);
        options.as(ExperimentalOptions.class).setExperiments(List.of(experiments));
        return Pipeline.create(options);
    }

    /** Run a pipeline that ends. */
    static void finish(Pipeline pipeline) {
        PipelineResult.State end = pipeline.run().waitUntilFinish(
                org.joda.time.Duration.millis(Node.PATIENCE.toMillis()));
        Node.expectEqual(PipelineResult.State.DONE, end);
    }

    /** Run a pipeline without an end until something holds. */
    static void runUntil(Pipeline pipeline, String what, Node.Question question)
            throws Exception {
        PipelineResult running = pipeline.run();
        try {
            Node.until(what, () -> {
                // The moment in which it must not end is the pause between two questions.
                PipelineResult.State end =
                        running.waitUntilFinish(org.joda.time.Duration.millis(50));
                Node.expect(end == null, "the pipeline ended by itself: " + end);
                return question.ask();
            });
        } finally {
            running.cancel();
        }
    }

    static KafkaIO.Read<String, String> read(Node node, String topic) {
        return KafkaIO.<String, String>read()
                .withBootstrapServers(node.bootstrap)
                .withTopic(topic)
                .withKeyDeserializer(StringDeserializer.class)
                .withValueDeserializer(StringDeserializer.class)
                .withConsumerConfigUpdates(Map.of("auto.offset.reset", "earliest"));
    }

    /** Keep every record under a name. */
    static void keep(String name, PCollection<KafkaRecord<String, String>> records) {
        SEEN.put(name, new ConcurrentLinkedQueue<>());
        records.apply("keep", ParDo.of(new Keep(name)));
    }

    /** The same for texts. */
    static void keepTexts(String name, PCollection<String> texts) {
        SEEN.put(name, new ConcurrentLinkedQueue<>());
        texts.apply("keep", ParDo.of(new KeepText(name)));
    }

    /** Rows of one field of bytes, as Managed IO takes and gives them. */
    static Create.Values<Row> rows(List<String> texts) {
        Schema schema = Schema.builder().addByteArrayField("payload").build();
        List<Row> rows = new ArrayList<>();
        for (String text : texts) {
            rows.add(Row.withSchema(schema).addValue(text.getBytes()).build());
        }
        return Create.of(rows).withRowSchema(schema);
    }

    static Coder<ProducerRecord<String, String>> recordCoder() {
        return ProducerRecordCoder.of(StringUtf8Coder.of(), StringUtf8Coder.of());
    }

    /** What was kept under a name, in order of the text. */
    static List<String> kept(String name) {
        List<String> all = new ArrayList<>(SEEN.get(name));
        Collections.sort(all);
        return all;
    }

    /** A record in a line: where it stands, and what is in it. */
    private static final class Keep extends DoFn<KafkaRecord<String, String>, Void> {
        private static final long serialVersionUID = 1;
        private final String name;

        Keep(String name) {
            this.name = name;
        }

        @ProcessElement
        public void process(@Element KafkaRecord<String, String> record) {
            StringBuilder line = new StringBuilder();
            line.append(record.getPartition()).append('/').append(record.getOffset());
            line.append(' ').append(record.getKV().getKey());
            line.append('=').append(record.getKV().getValue());
            for (Header header : record.getHeaders()) {
                line.append(' ').append(header.key()).append(':').append(
                        new String(header.value()));
            }
            SEEN.get(name).add(line.toString());
        }
    }

    private static final class KeepText extends DoFn<String, Void> {
        private static final long serialVersionUID = 1;
        private final String name;

        KeepText(String name) {
            this.name = name;
        }

        @ProcessElement
        public void process(@Element String text) {
            SEEN.get(name).add(text);
        }
    }

    private Pipelines() {}
}
