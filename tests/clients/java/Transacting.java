// Stories of transactions. The client of Kafka 3 tells the node of each partition first; that of
// Kafka 4 lets the node see for itself (KIP-890). Must hold with both.

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;

final class Transacting {
    private static final String[] COMMITTED = {"isolation.level", "read_committed"};

    static void what_is_committed_is_read_and_what_is_aborted_is_not(Node node) throws Exception {
        node.makeTopic("ends", 2);
        try (KafkaProducer<String, String> producer = node.producer("transactional.id", "ends")) {
            producer.initTransactions();
            for (int round = 0; round < 6; round++) {
                producer.beginTransaction();
                Node.sendNumbers(producer, "ends", 0, round * 10, round * 10 + 10);
                Node.sendNumbers(producer, "ends", 1, round * 10, round * 10 + 10);
                if (round % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
        List<String> committed = new ArrayList<>(Node.numbers(0, 10));
        committed.addAll(Node.numbers(20, 30));
        committed.addAll(Node.numbers(40, 50));
        for (int partition = 0; partition < 2; partition++) {
            Node.expectEqual(committed, node.read("ends", partition, 30, COMMITTED));
            Node.expectEqual(Node.numbers(0, 60), node.read("ends", partition, 60));
        }
    }

    static void an_open_transaction_holds_back_who_reads_what_is_committed(Node node)
            throws Exception {
        node.makeTopic("open", 1);
        TopicPartition partition = new TopicPartition("open", 0);
        try (KafkaProducer<String, String> producer = node.producer("transactional.id", "open");
                KafkaConsumer<String, String> reader = node.consumer(COMMITTED)) {
            reader.assign(List.of(partition));
            node.sendNumbers("open", 0, 0, 5);
            producer.initTransactions();
            producer.beginTransaction();
            Node.sendNumbers(producer, "open", 0, 5, 10);
            node.sendNumbers("open", 0, 10, 15);
            Node.expectEqual(Node.numbers(0, 5), Node.values(Node.poll(5, reader)));
            Node.expectEqual(5L, reader.endOffsets(Set.of(partition)).get(partition));
            Node.expectEqual(Node.numbers(0, 15), node.read("open", 0, 15));
            producer.commitTransaction();
            Node.expectEqual(Node.numbers(5, 15), Node.values(Node.poll(10, reader)));
            Node.expectEqual(16L, reader.endOffsets(Set.of(partition)).get(partition));
        }
    }

    static void a_zombie_is_fenced_and_its_open_transaction_aborted(Node node) throws Exception {
        node.makeTopic("fence", 1);
        KafkaProducer<String, String> zombie = node.producer("transactional.id", "fence");
        zombie.initTransactions();
        zombie.beginTransaction();
        Node.sendNumbers(zombie, "fence", 0, 0, 5);
        try (KafkaProducer<String, String> heir = node.producer("transactional.id", "fence")) {
            heir.initTransactions();
            heir.beginTransaction();
            Node.sendNumbers(heir, "fence", 0, 5, 10);
            KafkaException fenced = Node.expectFailure(KafkaException.class, () -> {
                zombie.send(new ProducerRecord<>("fence", 0, null, "late"));
                zombie.commitTransaction();
            });
            Node.expect(isFence(fenced), "not a fence: " + fenced);
            heir.commitTransaction();
        }
        Node.expectEqual(Node.numbers(5, 10), node.read("fence", 0, 5, COMMITTED));
        zombie.close();
    }

    private static boolean isFence(Throwable thrown) {
        for (Throwable at = thrown; at != null; at = at.getCause()) {
            if (at instanceof ProducerFencedException
                    || at instanceof InvalidProducerEpochException) {
                return true;
            }
        }
        return false;
    }

    static void offsets_are_committed_with_what_was_made_of_the_records(Node node)
            throws Exception {
        node.makeTopic("in", 1);
        node.makeTopic("out", 1);
        node.sendNumbers("in", 0, 0, 30);
        work(node, 10, false);
        work(node, 10, true);
        work(node, 10, false);
        work(node, 10, false);
        Node.expectEqual(Node.numbers(0, 30), node.read("out", 0, 30, COMMITTED));
    }

    /** One life of a worker that reads, writes and commits some records; it may fail at the end. */
    private static void work(Node node, int count, boolean fails) throws Exception {
        try (KafkaConsumer<String, String> consumer = node.consumer("group.id", "workers",
                        "isolation.level", "read_committed", "max.poll.records", "" + count);
                KafkaProducer<String, String> producer = node.producer(
                        "transactional.id", "worker")) {
            producer.initTransactions();
            consumer.subscribe(List.of("in"));
            producer.beginTransaction();
            List<ConsumerRecord<String, String>> some = Node.poll(count, consumer);
            for (ConsumerRecord<String, String> record : some) {
                producer.send(new ProducerRecord<>("out", 0, null, record.value()));
            }
            long next = some.get(some.size() - 1).offset() + 1;
            producer.sendOffsetsToTransaction(
                    Map.of(new TopicPartition("in", 0), new OffsetAndMetadata(next)),
                    consumer.groupMetadata());
            if (fails) {
                producer.abortTransaction();
            } else {
                producer.commitTransaction();
            }
        }
    }

    static void the_admin_lists_describes_and_aborts_an_open_transaction(Node node)
            throws Exception {
        node.makeTopic("hanging", 1);
        TopicPartition partition = new TopicPartition("hanging", 0);
        KafkaProducer<String, String> producer = node.producer("transactional.id", "hanging");
        producer.initTransactions();
        producer.beginTransaction();
        Node.sendNumbers(producer, "hanging", 0, 0, 5);
        try (Admin admin = node.admin()) {
            Node.expect(admin.listTransactions().all().get().stream().anyMatch(
                    one -> one.transactionalId().equals("hanging")
                            && one.state() == TransactionState.ONGOING), "it is listed");
            TransactionDescription open =
                    admin.describeTransactions(List.of("hanging")).description("hanging").get();
            Node.expectEqual(TransactionState.ONGOING, open.state());
            Node.expectEqual(Set.of(partition), open.topicPartitions());
            ProducerState state = admin.describeProducers(List.of(partition))
                    .partitionResult(partition).get().activeProducers().get(0);
            Node.expectEqual(open.producerId(), state.producerId());
            Node.expectEqual(0L, state.currentTransactionStartOffset().orElse(-1));
            admin.abortTransaction(new AbortTransactionSpec(partition, state.producerId(),
                    (short) state.producerEpoch(), state.coordinatorEpoch().orElse(0))).all().get();
        }
        node.sendNumbers("hanging", 0, 5, 10);
        Node.expectEqual(Node.numbers(5, 10), node.read("hanging", 0, 5, COMMITTED));
        producer.close(java.time.Duration.ZERO);
    }

    static void the_admin_fences_the_producers_of_an_id(Node node) throws Exception {
        node.makeTopic("banned", 1);
        KafkaProducer<String, String> producer = node.producer("transactional.id", "banned");
        producer.initTransactions();
        producer.beginTransaction();
        Node.sendNumbers(producer, "banned", 0, 0, 5);
        try (Admin admin = node.admin()) {
            admin.fenceProducers(List.of("banned")).all().get();
        }
        KafkaException fenced = Node.expectFailure(
                KafkaException.class, producer::commitTransaction);
        Node.expect(isFence(fenced), "not a fence: " + fenced);
        producer.close();
        node.sendNumbers("banned", 0, 5, 10);
        Node.expectEqual(Node.numbers(5, 10), node.read("banned", 0, 5, COMMITTED));
    }

    static void a_transaction_that_takes_too_long_is_aborted_by_the_node(Node node)
            throws Exception {
        node.makeTopic("slow", 1);
        KafkaProducer<String, String> producer = node.producer(
                "transactional.id", "slow", "transaction.timeout.ms", "1000");
        producer.initTransactions();
        producer.beginTransaction();
        Node.sendNumbers(producer, "slow", 0, 0, 5);
        node.sendNumbers("slow", 0, 5, 10);
        Node.expectEqual(Node.numbers(5, 10), node.read("slow", 0, 5, COMMITTED));
        Node.expectFailure(KafkaException.class, producer::commitTransaction);
        producer.close();
    }

    static void a_worker_that_lost_its_partitions_cannot_commit_their_offsets(Node node)
            throws Exception {
        node.makeTopic("lost", 1);
        node.sendNumbers("lost", 0, 0, 5);
        try (KafkaConsumer<String, String> consumer = node.consumer("group.id", "lost");
                KafkaProducer<String, String> producer = node.producer(
                        "transactional.id", "lost")) {
            consumer.subscribe(List.of("lost"));
            Node.poll(5, consumer);
            ConsumerGroupMetadata before = consumer.groupMetadata();
            consumer.unsubscribe();
            producer.initTransactions();
            producer.beginTransaction();
            Node.expectFailure(CommitFailedException.class, () -> {
                producer.sendOffsetsToTransaction(
                        Map.of(new TopicPartition("lost", 0), new OffsetAndMetadata(5)), before);
                producer.commitTransaction();
            });
            producer.abortTransaction();
            Node.expectEqual(null, consumer.committed(Set.of(new TopicPartition("lost", 0)))
                    .get(new TopicPartition("lost", 0)));
        }
    }

    static void an_empty_transaction_leaves_no_trace(Node node) throws Exception {
        node.makeTopic("empty", 1);
        try (KafkaProducer<String, String> producer = node.producer("transactional.id", "empty")) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.commitTransaction();
            producer.beginTransaction();
            producer.abortTransaction();
            producer.beginTransaction();
            Node.expectEqual(0L, producer.send(
                    new ProducerRecord<>("empty", 0, null, "0")).get().offset());
            producer.commitTransaction();
        }
        Node.expectEqual(List.of("0"), node.read("empty", 0, 1, COMMITTED));
    }

    private Transacting() {}
}
