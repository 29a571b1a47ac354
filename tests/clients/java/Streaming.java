// One instance of a Streams application, as in any tutorial, with exactly_once_v2:
// `Streaming HOST:PORT APPLICATION STATE_DIR [NAME=VALUE...]`. It prints `state NAME` at each change
// and runs until it is killed, or is asked to end and prints `closed`. What goes in and comes out is
// text; the test has a model of its own of what must come out.

import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.WindowStore;

public final class Streaming {
    private static final Duration WINDOW = Duration.ofSeconds(1);
    private static final Duration GRACE = Duration.ofSeconds(1);
    private static final Duration APART = Duration.ofMillis(300);
    // How two topics are interleaved differs from life to life, so no pair may come too late.
    private static final Duration ALL = Duration.ofHours(1);

    public static void main(String[] words) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", words[0]);
        settings.put("application.id", words[1]);
        settings.put("state.dir", words[2]);
        settings.put("processing.guarantee", "exactly_once_v2");
        settings.put("default.key.serde", Serdes.StringSerde.class.getName());
        settings.put("default.value.serde", Serdes.StringSerde.class.getName());
        // Each update comes out, so that each can be counted.
        settings.put("statestore.cache.max.bytes", "0");
        for (int at = 3; at < words.length; at++) {
            String[] pair = words[at].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        KafkaStreams app = new KafkaStreams(topology(), settings);
        app.setStateListener((now, before) -> System.out.println("state " + now));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            if (app.close(Duration.ofSeconds(40))) {
                System.out.println("closed");
            }
        }));
        app.start();
    }

    private static Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, String> readings = builder.stream("readings");
        readings.filter((device, value) -> number(value) % 2 == 0).to("even");
        readings.groupByKey().count(Named.as("per-device")).toStream()
                .mapValues(count -> count.toString()).to("per-device");
        readings.groupBy((device, value) -> "rest-" + number(value) % 7, Grouped.as("by-rest"))
                .count(Named.as("per-rest")).toStream()
                .mapValues(count -> count.toString()).to("per-rest");
        sums(readings);
        pairs(builder);
        return builder.build();
    }

    /** Count and sum of each window, told once, when it is closed. */
    private static void sums(KStream<String, String> readings) {
        readings.groupByKey().windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE))
                .aggregate(() -> "0 0", (device, value, sum) -> {
                    String[] parts = sum.split(" ");
                    return Long.parseLong(parts[0]) + 1 + " "
                            + (Long.parseLong(parts[1]) + number(value));
                }, Named.as("sums"), Materialized.<String, String, WindowStore<Bytes, byte[]>>as(
                        "sums").withKeySerde(Serdes.String()).withValueSerde(Serdes.String()))
                .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded())
                        .withName("closed"))
                .toStream()
                .map((window, sum) -> KeyValue.pair(
                        window.key() + "@" + window.window().start(), sum))
                .to("sums");
    }

    /** Values of a key in two topics that are not far apart in time. */
    private static void pairs(StreamsBuilder builder) {
        KStream<String, String> left = builder.stream("left");
        KStream<String, String> right = builder.stream("right");
        left.join(right, (one, other) -> one + " " + other,
                JoinWindows.ofTimeDifferenceAndGrace(APART, ALL),
                StreamJoined.<String, String, String>as("pairs").withKeySerde(Serdes.String())
                        .withValueSerde(Serdes.String()).withOtherValueSerde(Serdes.String()))
                .to("pairs");
    }

    private static long number(String value) {
        return Long.parseLong(value.trim());
    }

    private Streaming() {}
}
