// Rules of access by the Java Admin: `Access OWN HOST:PORT USER PASSWORD`. By OWN, the listener where
// whoever comes may do everything, rules are made, found and deleted; at HOST:PORT, as USER, the same
// things are refused before and done after. Prints `ok`.

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.errors.ClusterAuthorizationException;
import org.apache.kafka.common.errors.GroupAuthorizationException;
import org.apache.kafka.common.errors.TopicAuthorizationException;
import org.apache.kafka.common.errors.TransactionalIdAuthorizationException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public final class Access {
    private static final String TOPIC = "line-1";
    private static String who;

    public static void main(String[] words) throws Exception {
        who = "User:" + words[2];
        Map<String, Object> settings = settings(words[1], words[2], words[3]);
        try (Admin root = Admin.create(Map.of("bootstrap.servers", words[0]));
                Admin ann = Admin.create(settings)) {
            root.createTopics(List.of(new NewTopic(TOPIC, 1, (short) 1))).all().get();
            denied(ann, settings);
            rules(root);
            allowed(ann, settings);
            taken(root, settings);
        }
        System.out.println("ok");
    }

    private static void denied(Admin ann, Map<String, Object> settings) throws Exception {
        refused(TopicAuthorizationException.class, () -> produce(settings));
        refused(TopicAuthorizationException.class, () -> consume(settings));
        refused(GroupAuthorizationException.class,
                () -> ann.listConsumerGroupOffsets("report").partitionsToOffsetAndMetadata().get());
        refused(TransactionalIdAuthorizationException.class, () -> transact(settings));
        refused(ClusterAuthorizationException.class,
                () -> ann.describeAcls(AclBindingFilter.ANY).values().get());
        refused(TopicAuthorizationException.class,
                () -> ann.createTopics(List.of(new NewTopic("mine", 1, (short) 1))).all().get());
        refused(TopicAuthorizationException.class,
                () -> ann.describeTopics(List.of(TOPIC)).allTopicNames().get());
        check(ann.listTopics().names().get().isEmpty(), "topics are hidden");
        ann.describeCluster().nodes().get();
    }

    private static void rules(Admin root) throws Exception {
        List<AclBinding> made = List.of(
                rule(ResourceType.TOPIC, "line", PatternType.PREFIXED, AclOperation.WRITE),
                rule(ResourceType.TOPIC, "line", PatternType.PREFIXED, AclOperation.READ),
                rule(ResourceType.GROUP, "*", PatternType.LITERAL, AclOperation.READ),
                rule(ResourceType.TRANSACTIONAL_ID, "tx", PatternType.LITERAL, AclOperation.ALL));
        root.createAcls(made).all().get();
        check(find(root, AclBindingFilter.ANY).size() == made.size(), "all are found");
        ResourcePatternFilter about =
                new ResourcePatternFilter(ResourceType.TOPIC, TOPIC, PatternType.MATCH);
        AclBindingFilter filter =
                new AclBindingFilter(about, made.get(0).entry().toFilter());
        check(List.copyOf(find(root, filter)).equals(made.subList(0, 1)), "MATCH finds by topic");
    }

    private static void allowed(Admin ann, Map<String, Object> settings) throws Exception {
        produce(settings);
        transact(settings);
        check(consume(settings) == 2, "two records");
        check(ann.listTopics().names().get().equals(java.util.Set.of(TOPIC)), "one is seen");
    }

    private static void taken(Admin root, Map<String, Object> settings) throws Exception {
        ResourcePatternFilter topics =
                new ResourcePatternFilter(ResourceType.TOPIC, null, PatternType.ANY);
        AclBindingFilter filter = new AclBindingFilter(topics,
                new AccessControlEntry(who, "*", AclOperation.WRITE, AclPermissionType.ALLOW)
                        .toFilter());
        check(root.deleteAcls(List.of(filter)).all().get().size() == 1, "one is deleted");
        refused(TopicAuthorizationException.class, () -> produce(settings));
    }

    private static Collection<AclBinding> find(Admin root, AclBindingFilter filter)
            throws Exception {
        return root.describeAcls(filter).values().get();
    }

    private static AclBinding rule(
            ResourceType type, String name, PatternType pattern, AclOperation operation) {
        return new AclBinding(new ResourcePattern(type, name, pattern),
                new AccessControlEntry(who, "*", operation, AclPermissionType.ALLOW));
    }

    private static Object produce(Map<String, Object> settings) throws Exception {
        Map<String, Object> own = new HashMap<>(settings);
        own.put("enable.idempotence", "false");
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(own, new StringSerializer(), new StringSerializer())) {
            return producer.send(new ProducerRecord<>(TOPIC, "v")).get();
        }
    }

    private static Object transact(Map<String, Object> settings) throws Exception {
        Map<String, Object> own = new HashMap<>(settings);
        own.put("transactional.id", "tx");
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(own, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            producer.beginTransaction();
            Object sent = producer.send(new ProducerRecord<>(TOPIC, "v")).get();
            producer.commitTransaction();
            return sent;
        }
    }

    private static int consume(Map<String, Object> settings) {
        Map<String, Object> own = new HashMap<>(settings);
        own.put("group.id", "report");
        own.put("auto.offset.reset", "earliest");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(own, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(TOPIC));
            int seen = 0;
            long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            while (seen < 2 && System.nanoTime() < end) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                seen += records.count();
            }
            return seen;
        }
    }

    private static void refused(Class<? extends Exception> why, Callable<Object> what)
            throws Exception {
        try {
            what.call();
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            check(why.isInstance(cause), "wanted " + why.getSimpleName() + ", found " + cause);
            return;
        }
        throw new AssertionError("wanted " + why.getSimpleName() + ", and it was done");
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static Map<String, Object> settings(String bootstrap, String user, String password) {
        return Map.of(
                "bootstrap.servers", bootstrap,
                "security.protocol", "SASL_PLAINTEXT",
                "sasl.mechanism", "SCRAM-SHA-256",
                "max.block.ms", "20000",
                "sasl.jaas.config", String.format(
                        "org.apache.kafka.common.security.scram.ScramLoginModule required"
                                + " username=\"%s\" password=\"%s\";", user, password));
    }
}
