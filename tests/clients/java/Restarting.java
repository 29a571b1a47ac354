// Stories in which the node is killed and started again under clients that go on as if nothing had
// happened. The test does the killing, when a story asks for it. Told one by one, to a node that
// has no other clients.

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

final class Restarting {
    static void a_producer_and_a_group_go_on_when_the_node_was_killed(Node node) throws Exception {
        node.makeTopic("killed", 1);
        List<Future<RecordMetadata>> acks = new ArrayList<>();
        Shares shares = new Shares();
        try (KafkaProducer<String, String> producer = node.producer("batch.size", "100");
                KafkaConsumer<String, String> consumer = node.consumer("group.id", "killed",
                        // A client that finds no broker for a while begins anew by itself and joins
                        // again (KIP-899); here it is asked whether it must.
                        "metadata.recovery.strategy", "none")) {
            consumer.subscribe(List.of("killed"), shares);
            List<ConsumerRecord<String, String>> seen = new ArrayList<>();
            for (int round = 0; round < 3; round++) {
                for (int number = round * 200; number < round * 200 + 200; number++) {
                    acks.add(producer.send(new ProducerRecord<>("killed", 0, null, "" + number)));
                }
                if (round > 0) {
                    // What is under way now is sent again, and stored once.
                    node.restart();
                }
                int upto = round * 200 + 200;
                Node.pollUntil(seen, () -> seen.size() >= upto, upto + " records", consumer);
                consumer.commitSync();
            }
            for (int number = 0; number < 600; number++) {
                Node.expectEqual((long) number, acks.get(number).get().offset());
            }
            Node.expectEqual(Node.numbers(0, 600), Node.values(seen));
            Node.expectEqual(1, shares.given);
            Node.expectEqual(0, shares.taken);
            TopicPartition partition = new TopicPartition("killed", 0);
            Node.expectEqual(600L, consumer.committed(Set.of(partition)).get(partition).offset());
        }
        Node.expectEqual(Node.numbers(0, 600), node.read("killed", 0, 600));
    }

    static void a_new_group_goes_on_when_the_node_was_killed(Node node)
            throws Exception {
        node.makeTopic("kept", 2);
        Shares shares = new Shares();
        try (KafkaConsumer<String, String> consumer = node.consumer(
                "group.id", "kept", "group.protocol", "consumer")) {
            consumer.subscribe(List.of("kept"), shares);
            Node.pollUntil(new ArrayList<>(), () -> consumer.assignment().size() == 2,
                    "two partitions", consumer);
            int given = shares.given;
            node.restart();
            node.sendNumbers("kept", 1, 0, 10);
            List<ConsumerRecord<String, String>> seen = Node.poll(10, consumer);
            consumer.commitSync();
            Node.expectEqual(Node.numbers(0, 10), Node.values(seen));
            Node.expectEqual(given, shares.given);
            Node.expectEqual(0, shares.taken);
        }
    }

    /** Counts how often partitions were given and taken away. */
    private static final class Shares implements ConsumerRebalanceListener {
        int given;
        int taken;

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            given++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            taken++;
        }
    }

    static void a_transaction_is_ended_after_the_node_was_killed_in_its_middle(Node node)
            throws Exception {
        node.makeTopic("halved", 1);
        try (KafkaProducer<String, String> producer = node.producer("transactional.id", "halved")) {
            producer.initTransactions();
            producer.beginTransaction();
            Node.sendNumbers(producer, "halved", 0, 0, 10);
            node.restart();
            Node.sendNumbers(producer, "halved", 0, 10, 20);
            producer.commitTransaction();
            producer.beginTransaction();
            Node.sendNumbers(producer, "halved", 0, 20, 30);
            node.restart();
            producer.abortTransaction();
            producer.beginTransaction();
            Node.sendNumbers(producer, "halved", 0, 30, 40);
            producer.commitTransaction();
        }
        List<String> committed = new ArrayList<>(Node.numbers(0, 20));
        committed.addAll(Node.numbers(30, 40));
        Node.expectEqual(committed,
                node.read("halved", 0, 30, "isolation.level", "read_committed"));
    }

    private Restarting() {}
}
