// The Java clients log in with SASL: `LoggingIn HOST:PORT PROTOCOL MECHANISM USER PASSWORD CA` writes
// and reads some records and prints `ok`; with a wrong password it prints `refused` and what the
// client says. CA is a PEM file, or `-` where there is no TLS.

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import javax.security.auth.callback.Callback;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerTokenCallback;
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
        boolean isBearer = words[2].equals("OAUTHBEARER");
        String module = switch (words[2]) {
            case "PLAIN" -> "plain.Plain";
            case "OAUTHBEARER" -> "oauthbearer.OAuthBearer";
            default -> "scram.Scram";
        };
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", words[0]);
        settings.put("security.protocol", words[1]);
        settings.put("sasl.mechanism", words[2]);
        String who = String.format(" username=\"%s\" password=\"%s\"", words[3], words[4]);
        settings.put("sasl.jaas.config", String.format(
                "org.apache.kafka.common.security.%sLoginModule required%s;",
                module, isBearer ? "" : who));
        if (isBearer) {
            Bearer.user = words[3];
            Bearer.token = words[4];
            settings.put("sasl.login.callback.handler.class", Bearer.class.getName());
        }
        if (!words[5].equals("-")) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.location", words[5]);
        }
        return settings;
    }

    /** Shows the token of the command line. */
    public static final class Bearer implements AuthenticateCallbackHandler, OAuthBearerToken {
        private static String user;
        private static String token;

        @Override
        public void configure(Map<String, ?> settings, String mechanism,
                List<AppConfigurationEntry> entries) {}

        @Override
        public void handle(Callback[] callbacks) {
            for (Callback callback : callbacks) {
                if (callback instanceof OAuthBearerTokenCallback wanted) {
                    wanted.token(this);
                }
            }
        }

        @Override
        public void close() {}

        @Override
        public String value() {
            return token;
        }

        @Override
        public Set<String> scope() {
            return Set.of();
        }

        @Override
        public long lifetimeMs() {
            return System.currentTimeMillis() + 600_000;
        }

        @Override
        public String principalName() {
            return user;
        }

        @Override
        public Long startTimeMs() {
            return null;
        }
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
