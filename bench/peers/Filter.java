// A filter outside the broker, as its users would write it: lets records pass whose temperature is at
// least MIN. `Filter streams|loop HOST:PORT INPUT OUTPUT MIN STATE_DIR`: as a Kafka Streams
// application, or as a consumer and a producer in a loop. Settings are the defaults, but for what
// each is named by; it reads from the start of the input and runs until it is killed. The value is
// searched for the field and not parsed as a whole: the least that a filter has to do.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;

public final class Filter {
    private static final byte[] FIELD = "\"temperature\":".getBytes(StandardCharsets.US_ASCII);

    public static void main(String[] words) {
        String servers = words[1];
        String input = words[2];
        String output = words[3];
        double min = Double.parseDouble(words[4]);
        if (words[0].equals("streams")) {
            streams(servers, input, output, min, words[5]);
        } else {
            loop(servers, input, output, min);
        }
    }

    private static void streams(String servers, String input, String output, double min, String dir) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("application.id", "filter-" + output);
        settings.put("state.dir", dir);
        settings.put("auto.offset.reset", "earliest");
        settings.put("default.key.serde", Serdes.ByteArraySerde.class.getName());
        settings.put("default.value.serde", Serdes.ByteArraySerde.class.getName());
        StreamsBuilder builder = new StreamsBuilder();
        builder.<byte[], byte[]>stream(input).filter((key, value) -> temperature(value) >= min)
                .to(output);
        new KafkaStreams(builder.build(), settings).start();
    }

    private static void loop(String servers, String input, String output, double min) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("group.id", "filter-" + output);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("key.serializer", ByteArraySerializer.class.getName());
        settings.put("value.serializer", ByteArraySerializer.class.getName());
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings);
                KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings)) {
            consumer.subscribe(List.of(input));
            while (true) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(1));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    if (temperature(record.value()) >= min) {
                        producer.send(new ProducerRecord<>(output, record.key(), record.value()));
                    }
                }
                if (!records.isEmpty()) {
                    // At least once: what was read is committed after what came of it is stored.
                    producer.flush();
                    consumer.commitSync();
                }
            }
        }
    }

    /** The number after the field's name; NaN, which no comparison lets pass, if there is none. */
    private static double temperature(byte[] value) {
        int at = find(value);
        if (at < 0) {
            return Double.NaN;
        }
        int end = at;
        while (end < value.length && (value[end] == '-' || value[end] == '.'
                || value[end] >= '0' && value[end] <= '9')) {
            end++;
        }
        return Double.parseDouble(new String(value, at, end - at, StandardCharsets.US_ASCII));
    }

    private static int find(byte[] value) {
        for (int from = 0; from + FIELD.length <= value.length; from++) {
            int matched = 0;
            while (matched < FIELD.length && value[from + matched] == FIELD[matched]) {
                matched++;
            }
            if (matched == FIELD.length) {
                return from + matched;
            }
        }
        return -1;
    }

    private Filter() {}
}
