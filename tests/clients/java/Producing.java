// Stories of KafkaProducer. Must not look at anything but what clients see: acknowledgements, and
// the records that come back.

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.internals.RecordHeaders;

final class Producing {
    static void a_producer_as_it_comes_is_idempotent_and_keeps_order(Node node) throws Exception {
        node.makeTopic("once", 3);
        List<Future<RecordMetadata>> acks = new ArrayList<>();
        try (KafkaProducer<String, String> producer = node.producer("batch.size", "200")) {
            for (int number = 0; number < 600; number++) {
                acks.add(producer.send(
                        new ProducerRecord<>("once", number % 3, "key", "" + number / 3)));
            }
        }
        for (int number = 0; number < 600; number++) {
            Node.expectEqual(number / 3L, acks.get(number).get().offset());
        }
        for (int partition = 0; partition < 3; partition++) {
            Node.expectEqual(Node.numbers(0, 200), node.read("once", partition, 200));
        }
        try (Admin admin = node.admin()) {
            TopicPartition first = new TopicPartition("once", 0);
            List<ProducerState> known = admin.describeProducers(List.of(first))
                    .partitionResult(first).get().activeProducers();
            Node.expectEqual(1, known.size());
            Node.expectEqual(199, known.get(0).lastSequence());
            Node.expectEqual(0, known.get(0).producerEpoch());
        }
    }

    static void gzip_records_come_back_as_sent(Node node) throws Exception {
        codec(node, "gzip");
    }

    static void snappy_records_come_back_as_sent(Node node) throws Exception {
        codec(node, "snappy");
    }

    static void lz4_records_come_back_as_sent(Node node) throws Exception {
        codec(node, "lz4");
    }

    static void zstd_records_come_back_as_sent(Node node) throws Exception {
        codec(node, "zstd");
    }

    private static void codec(Node node, String codec) throws Exception {
        String topic = "codec-" + codec;
        node.makeTopic(topic, 1);
        try (KafkaProducer<String, String> producer = node.producer(
                "compression.type", codec, "linger.ms", "20")) {
            for (int number = 0; number < 300; number++) {
                RecordHeaders headers = new RecordHeaders();
                headers.add("unit", "celsius".getBytes());
                producer.send(new ProducerRecord<>(topic, 0, 1_000L + number, "pump-" + number % 7,
                        "reading " + number, headers));
            }
        }
        try (KafkaConsumer<String, String> consumer = node.consumer()) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            int number = 0;
            for (ConsumerRecord<String, String> record : Node.poll(300, consumer)) {
                Node.expectEqual((long) number, record.offset());
                Node.expectEqual(1_000L + number, record.timestamp());
                Node.expectEqual("pump-" + number % 7, record.key());
                Node.expectEqual("reading " + number, record.value());
                byte[] unit = record.headers().lastHeader("unit").value();
                Node.expectEqual("celsius", new String(unit));
                number++;
            }
            Node.expectEqual(300, number);
        }
    }

    static void acks_none_one_and_all_are_served(Node node) throws Exception {
        node.makeTopic("acks", 3);
        String[] levels = {"0", "1", "all"};
        for (int partition = 0; partition < 3; partition++) {
            try (KafkaProducer<String, String> producer = node.producer(
                    "acks", levels[partition], "enable.idempotence", "false")) {
                Node.sendNumbers(producer, "acks", partition, 0, 50);
            }
            Node.expectEqual(Node.numbers(0, 50), node.read("acks", partition, 50));
        }
    }

    static void a_key_or_a_value_may_be_null(Node node) throws Exception {
        node.makeTopic("nulls", 1);
        try (KafkaProducer<String, String> producer = node.producer()) {
            producer.send(new ProducerRecord<>("nulls", null, "no key")).get();
            producer.send(new ProducerRecord<>("nulls", "no value", null)).get();
        }
        try (KafkaConsumer<String, String> consumer = node.consumer()) {
            consumer.assign(List.of(new TopicPartition("nulls", 0)));
            List<ConsumerRecord<String, String>> records = Node.poll(2, consumer);
            Node.expectEqual(null, records.get(0).key());
            Node.expectEqual("no key", records.get(0).value());
            Node.expectEqual("no value", records.get(1).key());
            Node.expectEqual(null, records.get(1).value());
        }
    }

    static void a_record_above_the_limit_of_its_topic_is_refused(Node node) throws Exception {
        try (Admin admin = node.admin()) {
            NewTopic small = new NewTopic("small", 1, (short) 1);
            small.configs(Map.of("max.message.bytes", "2000"));
            admin.createTopics(List.of(small)).all().get();
        }
        try (KafkaProducer<String, String> producer = node.producer()) {
            Node.expectFailure(RecordTooLargeException.class, () ->
                    producer.send(new ProducerRecord<>("small", "x".repeat(5_000))).get());
            Node.expectEqual(0L, producer.send(new ProducerRecord<>("small", "x")).get().offset());
        }
    }

    static void a_topic_is_made_when_it_is_first_sent_to(Node node) throws Exception {
        try (KafkaProducer<String, String> producer = node.producer()) {
            Node.expectEqual(0L, producer.send(new ProducerRecord<>("new", "1")).get().offset());
        }
        Node.expectEqual(List.of("1"), node.read("new", 0, 1));
    }

    private Producing() {}
}
