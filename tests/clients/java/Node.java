// The node as a story sees it: clients connected to it, and the steps that many stories share.
// Waits for what has to happen, with a deadline; never for a time to pass.

import java.net.Socket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

final class Node {
    static final Duration PATIENCE = Duration.ofSeconds(40);
    private static final Duration POLL = Duration.ofMillis(100);

    final String bootstrap;

    Node(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    Admin admin() {
        return Admin.create(settings(new String[0]));
    }

    /** A producer of strings; `more` is a list of names and values. */
    KafkaProducer<String, String> producer(String... more) {
        return new KafkaProducer<>(settings(more), new StringSerializer(), new StringSerializer());
    }

    /** A consumer of strings from the beginning, which commits when it is told to. */
    KafkaConsumer<String, String> consumer(String... more) {
        Map<String, Object> all = settings(more);
        all.putIfAbsent("auto.offset.reset", "earliest");
        all.putIfAbsent("enable.auto.commit", "false");
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    private Map<String, Object> settings(String[] more) {
        Map<String, Object> all = new HashMap<>();
        all.put("bootstrap.servers", bootstrap);
        all.put("default.api.timeout.ms", "" + PATIENCE.toMillis());
        for (int at = 0; at < more.length; at += 2) {
            all.put(more[at], more[at + 1]);
        }
        return all;
    }

    void makeTopic(String topic, int partitions) throws Exception {
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
    }

    /** Have the node killed and started again; back when it serves. */
    void restart() throws Exception {
        String[] bell = System.getProperty("millpond.bell").split(":");
        try (Socket socket = new Socket(bell[0], Integer.parseInt(bell[1]))) {
            socket.getOutputStream().write('r');
            expectEqual((int) 'r', socket.getInputStream().read());
        }
    }

    /** Send the numbers first..end to one partition and wait until they are stored. */
    void sendNumbers(String topic, int partition, int first, int end) throws Exception {
        try (KafkaProducer<String, String> producer = producer()) {
            sendNumbers(producer, topic, partition, first, end);
        }
    }

    static void sendNumbers(
            KafkaProducer<String, String> producer, String topic, int partition, int first, int end)
            throws Exception {
        for (int number = first; number < end; number++) {
            producer.send(new ProducerRecord<>(topic, partition, null, "" + number));
        }
        producer.flush();
    }

    /** The values of a partition from its beginning, until `count` of them are there. */
    List<String> read(String topic, int partition, int count, String... more) {
        try (KafkaConsumer<String, String> consumer = consumer(more)) {
            TopicPartition at = new TopicPartition(topic, partition);
            consumer.assign(List.of(at));
            consumer.seekToBeginning(List.of(at));
            return values(poll(count, consumer));
        }
    }

    /** Poll the consumers in turn until `count` records came. */
    @SafeVarargs
    static List<ConsumerRecord<String, String>> poll(
            int count, KafkaConsumer<String, String>... consumers) {
        List<ConsumerRecord<String, String>> seen = new ArrayList<>();
        pollUntil(seen, () -> seen.size() >= count, count + " records", consumers);
        return seen;
    }

    /** Poll the consumers in turn until something holds. */
    @SafeVarargs
    static void pollUntil(
            List<ConsumerRecord<String, String>> seen, BooleanSupplier holds, String what,
            KafkaConsumer<String, String>... consumers) {
        long giveUp = System.nanoTime() + PATIENCE.toNanos();
        while (!holds.getAsBoolean()) {
            expect(System.nanoTime() < giveUp, "waited for " + what + ", saw " + values(seen));
            for (KafkaConsumer<String, String> consumer : consumers) {
                consumer.poll(POLL).forEach(seen::add);
            }
        }
    }

    /** Ask again until the answer is the one; an answer is a round trip, so nothing spins. */
    static void until(String what, Question question) throws Exception {
        long giveUp = System.nanoTime() + PATIENCE.toNanos();
        while (!question.ask()) {
            expect(System.nanoTime() < giveUp, "waited for " + what);
        }
    }

    interface Question {
        boolean ask() throws Exception;
    }

    interface Step {
        void take() throws Throwable;
    }

    /** The step must fail with this exception, thrown or as the cause of the one that is. */
    static <E extends Throwable> E expectFailure(Class<E> kind, Step step) {
        try {
            step.take();
        } catch (Throwable thrown) {
            for (Throwable at = thrown; at != null; at = at.getCause()) {
                if (kind.isInstance(at)) {
                    return kind.cast(at);
                }
            }
            throw new AssertionError("expected " + kind.getSimpleName(), thrown);
        }
        throw new AssertionError("expected " + kind.getSimpleName() + ", nothing was thrown");
    }

    static void expect(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void expectEqual(Object expected, Object found) {
        expect(Objects.equals(expected, found), "expected " + expected + ", found " + found);
    }

    /** How many records there are, counting each once. */
    static long distinct(List<ConsumerRecord<String, String>> records) {
        return records.stream().map(r -> r.partition() + ":" + r.offset()).distinct().count();
    }

    static List<String> values(List<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).collect(Collectors.toList());
    }

    /** The numbers first..end as text. */
    static List<String> numbers(int first, int end) {
        return IntStream.range(first, end).mapToObj(Integer::toString).collect(Collectors.toList());
    }
}
