// The Java clients log in with SASL: `LoggingIn HOST:PORT PROTOCOL MECHANISM USER PASSWORD CA` writes
// and reads some records and prints `ok`; with a wrong password it prints `refused` and what the
// client says. CA is a PEM file, or `-` where there is no TLS.

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public final class LoggingIn {
    private static final int RECORDS = 50;

    public static void main(String[] words) throws Exception {
        Map<String, Object> settings = settings(words);
        try (Admin admin = Admin.create(settings)) {
            admin.describeCluster().nodes().get(30, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            if (error.getCause() instanceof SaslAuthenticationException refused) {
                System.out.println("refused " + refused.getMessage());
                return;
            }
            throw error;
        }
        String topic = ("sasl-java-" + words[1] + "-" + words[2]).toLowerCase();
        roundTrip(settings, topic);
        System.out.println("ok");
    }

    private static Map<String, Object> settings(String[] words) {
        String module = words[2].equals("PLAIN") ? "plain.Plain" : "scram.Scram";
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", words[0]);
        settings.put("security.protocol", words[1]);
        settings.put("sasl.mechanism", words[2]);
        settings.put("sasl.jaas.config", String.format(
                "org.apache.kafka.common.security.%sLoginModule required username=\"%s\" password=\"%s\";",
                module, words[3], words[4]));
        if (!words[5].equals("-")) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.location", words[5]);
        }
        return settings;
    }

    private static void roundTrip(Map<String, Object> settings, String topic) throws Exception {
        List<String> wanted = new ArrayList<>();
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < RECORDS; i++) {
                wanted.add("reading " + i);
                producer.send(new ProducerRecord<>(topic, wanted.get(i))).get(30, TimeUnit.SECONDS);
            }
        }
        settings.put("group.id", "java");
        settings.put("auto.offset.reset", "earliest");
        List<String> seen = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            long giveUp = System.nanoTime() + TimeUnit.SECONDS.toNanos(40);
            while (seen.size() < RECORDS && System.nanoTime() < giveUp) {
                consumer.poll(Duration.ofMillis(200)).forEach(record -> seen.add(record.value()));
            }
        }
        if (!seen.equals(wanted)) {
            throw new AssertionError("read " + seen);
        }
    }
}
