// Stories of pipelines of Apache Beam whose node is killed under them. Each has the node for itself.

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import org.apache.kafka.common.TopicPartition;

final class BeamRestarting {
    static void a_pipeline_of_exactly_once_goes_on_when_the_node_was_killed(Node node)
            throws Exception {
        node.makeTopic("beam-killed-in", 2);
        node.makeTopic("beam-killed-out", 1);
        node.sendNumbers("beam-killed-in", 0, 0, 100);
        int[] sent = {100};
        List<String> seen = new ArrayList<>();
        try (var reader = node.consumer("isolation.level", "read_committed")) {
            reader.assign(List.of(new TopicPartition("beam-killed-out", 0)));
            Pipelines.runUntil(
                    BeamWriting.exactlyOnce(
                            node, "beam-killed-in", "beam-killed-out", "beam-killed"),
                    "300 committed records", () -> {
                        reader.poll(java.time.Duration.ofMillis(50))
                                .forEach(record -> seen.add(record.value()));
                        if (seen.size() >= sent[0] && sent[0] < 300) {
                            // Some of these are under way when the node is killed.
                            node.sendNumbers(
                                    "beam-killed-in", 1, sent[0], sent[0] + 100);
                            sent[0] += 100;
                            node.restart();
                        }
                        return seen.size() >= 300;
                    });
        }
        List<String> found =
                node.read("beam-killed-out", 0, 300, "isolation.level", "read_committed");
        Node.expectEqual(new HashSet<>(Node.numbers(0, 300)), new HashSet<>(found));
        Node.expectEqual(300, found.size());
        Collections.sort(found);
        Collections.sort(seen);
        Node.expectEqual(found, seen);
    }

    private BeamRestarting() {}
}
