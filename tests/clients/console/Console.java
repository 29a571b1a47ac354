// Asks a web console what its pages ask, over the same WebSocket, and compares with what the node
// was told by a producer and a group: `Console HOST:PORT CONSOLE_PORT`, with the jars of the newest
// Java client. Prints `ok console`, or ends with what did not hold.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public final class Console implements WebSocket.Listener {
    private static final String PAGES = "io.quarkus.quarkus-kafka-client.";

    private final BlockingQueue<String> answers = new LinkedBlockingQueue<>();
    private final StringBuilder part = new StringBuilder();
    private final WebSocket socket;
    private int asked;

    private Console(String port) {
        URI pages = URI.create("ws://localhost:" + port + "/q/dev-ui/json-rpc-ws");
        socket = HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(pages, this).join();
    }

    @Override
    public CompletionStage<?> onText(WebSocket from, CharSequence text, boolean last) {
        part.append(text);
        if (last) {
            answers.add(part.toString());
            part.setLength(0);
        }
        from.request(1);
        return null;
    }

    /** The answer without its white space; it must hold all of these. */
    private void ask(String method, String parameters, String... wanted) throws Exception {
        asked++;
        String request = "{\"jsonrpc\":\"2.0\",\"id\":" + asked + ",\"method\":\"" + PAGES + method
                + "\",\"params\":{" + parameters + "}}";
        socket.sendText(request.replace('\'', '"'), true).join();
        String answer = answers.poll(30, TimeUnit.SECONDS);
        if (answer == null) {
            throw new AssertionError(method + ": no answer");
        }
        String packed = answer.replaceAll("\\s", "");
        for (String part : wanted) {
            if (!packed.contains(part.replace('\'', '"'))) {
                throw new AssertionError(method + ": no " + part + " in " + packed);
            }
        }
        System.out.println(method + ": as wanted");
    }

    public static void main(String[] words) throws Exception {
        String bootstrap = words[0];
        Console console = new Console(words[1]);
        String node = "{'host':'127.0.0.1','port':" + bootstrap.split(":")[1] + ",'id':'1'}";
        console.ask("getInfo", "", "'controller':" + node, "'nodes':[" + node + "]",
                "'topics':[]", "'consumerGroups':[]");
        console.ask("createTopic",
                "'topicName':'web','partitions':3,'replications':1,"
                        + "'configs':{'max.message.bytes':'20000'}",
                "'name':'web'", "'partitionsCount':3");
        console.ask("getPartitions", "'topicName':'web'", "[0,1,2]");
        console.ask("createMessage",
                "'topicName':'web','partition':1,'key':'k','value':'hello','headers':{'h':'x'}",
                "'partition':1,'offset':0", "'value':'hello'", "'headers':{'h':'x'}");
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap);
        try (var producer = new KafkaProducer<>(
                settings, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < 30; number++) {
                producer.send(new ProducerRecord<>("web", 0, null, "" + number));
            }
        }
        Map<String, Object> member = Map.of("bootstrap.servers", bootstrap, "group.id", "readers",
                "auto.offset.reset", "earliest", "max.poll.records", 10);
        try (var consumer = new KafkaConsumer<>(
                member, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of("web"));
            int seen = 0;
            while (seen < 31) {
                seen += consumer.poll(Duration.ofMillis(100)).count();
            }
            consumer.commitSync();
            try (var producer = new KafkaProducer<>(
                    settings, new StringSerializer(), new StringSerializer())) {
                producer.send(new ProducerRecord<>("web", 0, null, "late")).get();
            }
            console.ask("getInfo", "", "'name':'web'", "'nmsg':32", "'name':'readers'",
                    "'state':'STABLE'", "'lag':1");
        }
        // A page of the newest.
        console.ask("topicMessages", "'topicName':'web'", "'offset':30", "'value':'late'",
                "'offset':11", "'value':'11'");
        console.ask("getAclInfo", "", "'entries':[]");
        console.ask("deleteTopic", "'topicName':'web'", "'object':[]");
        System.out.println("ok console");
        System.exit(0);
    }
}
