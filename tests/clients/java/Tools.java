// Stories of Kafka's own command-line tools, each started by its main class with the arguments that
// a person would type. All run in this JVM: their exit becomes an exception, their output is kept.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.utils.Exit;

final class Tools {
    private static final String TOOLS = "org.apache.kafka.tools.";
    private static final String GROUPS = "consumer.group.ConsumerGroupCommand";

    /** What a tool throws instead of ending the JVM. */
    private static final class Exited extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    /** Run a tool that must succeed; what it printed. */
    private static String run(Node node, String tool, String... words) throws Exception {
        return runWithInput(node, "", tool, words);
    }

    private static String runWithInput(Node node, String input, String tool, String... words)
            throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", node.bootstrap));
        all.addAll(List.of(words));
        return start(input, tool, all.toArray(new String[0]));
    }

    private static String start(String input, String tool, String... words) throws Exception {
        PrintStream out = System.out;
        PrintStream err = System.err;
        InputStream in = System.in;
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        PrintStream kept = new PrintStream(said, true, StandardCharsets.UTF_8);
        // Some tools catch what their own exit throws: the first status is the one that counts.
        AtomicReference<Integer> ended = new AtomicReference<>();
        Exit.setExitProcedure((code, message) -> {
            ended.compareAndSet(null, code);
            throw new Exited();
        });
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        System.setOut(kept);
        System.setErr(kept);
        try {
            String name = tool.startsWith("kafka.") ? tool : TOOLS + tool;
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) words);
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Exited)) {
                thrown.getCause().printStackTrace(kept);
                ended.compareAndSet(null, -1);
            }
        } finally {
            System.setOut(out);
            System.setErr(err);
            System.setIn(in);
            Exit.resetExitProcedure();
        }
        String text = said.toString(StandardCharsets.UTF_8);
        String line = tool + " " + String.join(" ", words);
        Integer status = ended.get();
        Node.expect(status == null || status == 0, line + ": exit status " + status + "\n" + text);
        return text;
    }

    /** The text must hold this, whatever the spaces between its words are. */
    private static void expectIn(String text, String... parts) {
        String even = text.replaceAll("[ \t]+", " ");
        for (String part : parts) {
            Node.expect(even.contains(part), "no \"" + part + "\" in:\n" + text);
        }
    }

    private static Path file(String name, String text) throws Exception {
        Path path = Files.createTempFile("millpond-", name);
        path.toFile().deleteOnExit();
        return Files.writeString(path, text);
    }

    static void kafka_topics_makes_grows_describes_and_deletes(Node node) throws Exception {
        String tool = "TopicCommand";
        expectIn(run(node, tool, "--create", "--topic", "tooled", "--partitions", "2",
                "--replication-factor", "1", "--config", "retention.ms=3600000"),
                "Created topic tooled.");
        run(node, tool, "--alter", "--topic", "tooled", "--partitions", "3");
        expectIn(run(node, tool, "--describe", "--topic", "tooled"),
                "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=3600000",
                "Partition: 2");
        expectIn(run(node, tool, "--list"), "tooled");
        run(node, tool, "--describe", "--under-replicated-partitions");
        run(node, tool, "--delete", "--topic", "tooled");
        Node.expect(!run(node, tool, "--list").contains("tooled"), "it is gone");
    }

    static void kafka_configs_alters_and_describes_topics_and_clients(Node node)
            throws Exception {
        String tool = "kafka.admin.ConfigCommand";
        node.makeTopic("configured", 1);
        String[] topic = {"--entity-type", "topics", "--entity-name", "configured"};
        run(node, tool, with(topic, "--alter", "--add-config", "retention.ms=7200000"));
        expectIn(run(node, tool, with(topic, "--describe")), "retention.ms=7200000");
        expectIn(run(node, tool, with(topic, "--describe", "--all")), "cleanup.policy=delete");
        run(node, tool, with(topic, "--alter", "--delete-config", "retention.ms"));
        Node.expect(!run(node, tool, with(topic, "--describe")).contains("7200000"), "unset");
        String[] client = {"--entity-type", "clients", "--entity-name", "meter"};
        run(node, tool, with(client, "--alter", "--add-config", "producer_byte_rate=1000000"));
        expectIn(run(node, tool, with(client, "--describe")), "producer_byte_rate=1000000");
        run(node, tool, with(client, "--alter", "--delete-config", "producer_byte_rate"));
        String id = id(node);
        expectIn(run(node, tool, "--entity-type", "brokers", "--entity-name", id, "--describe",
                "--all"), "log.retention.ms");
        String[] all = {"--entity-type", "brokers", "--entity-default"};
        run(node, tool, with(all, "--alter", "--add-config", "log.roll.ms=86400002"));
        expectIn(run(node, tool, with(all, "--describe")), "log.roll.ms=86400002");
        run(node, tool, with(all, "--alter", "--delete-config", "log.roll.ms"));
    }

    private static String[] with(String[] words, String... more) {
        List<String> all = new ArrayList<>(List.of(words));
        all.addAll(List.of(more));
        return all.toArray(new String[0]);
    }

    private static String id(Node node) throws Exception {
        try (var admin = node.admin()) {
            return admin.describeCluster().nodes().get().iterator().next().idString();
        }
    }

    static void kafka_console_producer_and_consumer_pass_lines_on(Node node) throws Exception {
        node.makeTopic("lines", 1);
        runWithInput(node, "a:one\nb:two\nc:three\n", "ConsoleProducer", "--topic", "lines",
                "--reader-property", "parse.key=true", "--reader-property", "key.separator=:");
        expectIn(run(node, "consumer.ConsoleConsumer", "--topic", "lines", "--from-beginning",
                "--max-messages", "3", "--timeout-ms", "30000",
                "--formatter-property", "print.key=true", "--formatter-property",
                "print.offset=true"),
                "Offset:0 a one", "Offset:1 b two", "Offset:2 c three");
    }

    static void kafka_consumer_groups_describes_resets_and_deletes(Node node) throws Exception {
        node.makeTopic("watched", 1);
        node.sendNumbers("watched", 0, 0, 30);
        try (var consumer = node.consumer("group.id", "watchers")) {
            consumer.subscribe(List.of("watched"));
            Node.poll(30, consumer);
            consumer.commitSync();
            expectIn(run(node, GROUPS, "--describe", "--group", "watchers"),
                    "watchers watched 0 30 30 0");
            expectIn(run(node, GROUPS, "--describe", "--group", "watchers", "--state"), "Stable");
            expectIn(run(node, GROUPS, "--describe", "--group", "watchers", "--members"),
                    "watchers consumer-");
        }
        expectIn(run(node, GROUPS, "--list"), "watchers");
        expectIn(run(node, GROUPS, "--reset-offsets", "--group", "watchers", "--topic", "watched",
                "--to-offset", "12", "--execute"), "watchers watched 0 12");
        expectIn(run(node, GROUPS, "--reset-offsets", "--group", "watchers", "--all-topics",
                "--shift-by", "5", "--execute"), "watchers watched 0 17");
        expectIn(run(node, GROUPS, "--reset-offsets", "--group", "watchers", "--all-topics",
                "--to-datetime", "2020-01-01T00:00:00.000", "--execute"), "watchers watched 0 0");
        expectIn(run(node, GROUPS, "--describe", "--group", "watchers"),
                "watchers watched 0 0 30 30");
        run(node, GROUPS, "--delete-offsets", "--group", "watchers", "--topic", "watched");
        run(node, GROUPS, "--delete", "--group", "watchers");
        Node.expect(!run(node, "GroupsCommand", "--list").contains("watchers"), "it is gone");
    }

    static void kafka_get_offsets_and_delete_records_agree(Node node) throws Exception {
        node.makeTopic("measured", 2);
        node.sendNumbers("measured", 0, 0, 10);
        node.sendNumbers("measured", 1, 0, 4);
        expectIn(run(node, "GetOffsetShell", "--topic", "measured"),
                "measured:0:10", "measured:1:4");
        Path upto = file("upto.json", "{\"version\": 1, \"partitions\": ["
                + "{\"topic\": \"measured\", \"partition\": 0, \"offset\": 6}]}");
        expectIn(run(node, "DeleteRecordsCommand", "--offset-json-file", upto.toString()),
                "low_watermark: 6");
        expectIn(run(node, "GetOffsetShell", "--topic", "measured", "--time", "earliest"),
                "measured:0:6", "measured:1:0");
    }

    static void kafka_log_dirs_tells_sizes(Node node) throws Exception {
        node.makeTopic("weighed", 1);
        node.sendNumbers("weighed", 0, 0, 100);
        expectIn(run(node, "LogDirsCommand", "--describe", "--topic-list", "weighed"),
                "\"partition\":\"weighed-0\"", "\"error\":null");
    }

    static void kafka_transactions_finds_and_aborts_what_hangs(Node node) throws Exception {
        node.makeTopic("stuck", 1);
        KafkaProducer<String, String> producer = node.producer("transactional.id", "stuck");
        producer.initTransactions();
        producer.beginTransaction();
        Node.sendNumbers(producer, "stuck", 0, 0, 5);
        expectIn(transactions(node, "list"), "stuck", "Ongoing");
        expectIn(transactions(node, "describe", "--transactional-id", "stuck"),
                "Ongoing", "stuck-0");
        expectIn(transactions(node, "describe-producers", "--topic", "stuck", "--partition", "0"),
                "CurrentTransactionStartOffset");
        transactions(node, "abort", "--topic", "stuck", "--partition", "0", "--start-offset", "0");
        transactions(node, "find-hanging", "--broker-id", id(node));
        transactions(node, "forceTerminateTransaction", "--transactionalId", "stuck");
        node.sendNumbers("stuck", 0, 5, 10);
        Node.expectEqual(Node.numbers(5, 10),
                node.read("stuck", 0, 5, "isolation.level", "read_committed"));
        producer.close(java.time.Duration.ZERO);
    }

    private static String transactions(Node node, String... words) throws Exception {
        return run(node, "TransactionsCommand", words);
    }

    static void kafka_perf_tests_send_and_read(Node node) throws Exception {
        node.makeTopic("perf", 1);
        expectIn(run(node, "ProducerPerformance", "--topic", "perf", "--num-records", "20000",
                "--record-size", "100", "--throughput", "-1", "--command-property", "acks=all"),
                "20000 records sent");
        expectIn(run(node, "ProducerPerformance", "--topic", "perf", "--num-records", "2000",
                "--record-size", "100", "--throughput", "-1", "--transaction-duration-ms", "100"),
                "2000 records sent");
        expectIn(run(node, "ConsumerPerformance", "--topic", "perf", "--messages", "20000"),
                "data.consumed.in.MB");
    }

    static void kafka_verifiable_producer_and_consumer_agree(Node node) throws Exception {
        node.makeTopic("verified", 2);
        expectIn(runApart(node, "VerifiableProducer", "--topic", "verified",
                "--max-messages", "500"), "\"sent\":500", "\"acked\":500");
        expectIn(runApart(node, "VerifiableConsumer", "--topic", "verified", "--group-id",
                "verifier", "--max-messages", "500", "--reset-policy", "earliest"),
                "records_consumed", "offsets_committed", "shutdown_complete");
    }

    /** Run a tool that tells its end only when its JVM ends. */
    private static String runApart(Node node, String tool, String... words) throws Exception {
        List<String> all = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"),
                TOOLS + tool, "--bootstrap-server", node.bootstrap));
        all.addAll(List.of(words));
        Process process = new ProcessBuilder(all).redirectErrorStream(true).start();
        Timer timer = new Timer(true);
        timer.schedule(new TimerTask() {
            @Override public void run() {
                process.destroyForcibly();
            }
        }, Node.PATIENCE.toMillis());
        String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        int status = process.waitFor();
        timer.cancel();
        Node.expect(status == 0, tool + ": exit status " + status + "\n" + text);
        return text;
    }

    static void kafka_tells_the_cluster_its_features_and_versions(Node node) throws Exception {
        expectIn(run(node, "BrokerApiVersionsCommand"), "Produce(0): 0 to", "EndTxn(26)");
        expectIn(start("", "ClusterTool", "cluster-id", "--bootstrap-server", node.bootstrap),
                "Cluster ID:");
        expectIn(run(node, "FeatureCommand", "describe"), "Feature: transaction.version");
        expectIn(run(node, "MetadataQuorumCommand", "describe", "--status"), "LeaderId:");
    }

    static void kafka_e2e_latency_is_measured(Node node) throws Exception {
        node.makeTopic("latency", 1);
        expectIn(run(node, "EndToEndLatency", "--topic", "latency", "--num-records", "100",
                "--producer-acks", "all", "--record-size", "100"), "Avg latency:");
    }

    static void kafka_consumer_groups_describes_a_group_that_the_node_assigns(Node node)
            throws Exception {
        node.makeTopic("new-watched", 1);
        node.sendNumbers("new-watched", 0, 0, 10);
        try (var consumer = node.consumer("group.id", "newer", "group.protocol", "consumer")) {
            consumer.subscribe(List.of("new-watched"));
            Node.poll(10, consumer);
            consumer.commitSync();
            expectIn(run(node, GROUPS, "--describe", "--group", "newer"),
                    "newer new-watched 0 10 10 0");
            expectIn(run(node, GROUPS, "--describe", "--group", "newer", "--state", "--verbose"),
                    "uniform Stable");
            expectIn(run(node, GROUPS, "--list", "--type", "consumer", "--state"), "newer");
        }
    }

    static void kafka_leader_election_and_reassignment_find_nothing_to_do(Node node)
            throws Exception {
        run(node, "LeaderElectionCommand", "--election-type", "preferred",
                "--all-topic-partitions");
        expectIn(run(node, "reassign.ReassignPartitionsCommand", "--list"),
                "No partition reassignments found.");
    }

    private Tools() {}
}
