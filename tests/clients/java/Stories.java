// Tells stories of the Java clients to one node, in one JVM: `Stories HOST:PORT CLASS...` runs
// every static method of the classes that takes a Node and has a name of several words. For each
// it prints `ok NAME`, or `failed NAME` with what went wrong. Stories share the node, so each has
// topics and groups of its own.

import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

public final class Stories {
    /** Most stories wait for the node's timers: some at once take no more of the processor. */
    private static final int AT_ONCE = 4;

    /** Tools share the one standard output; who kills the node kills it for all. They come last. */
    private static final Set<String> ALONE = Set.of("Tools", "Restarting", "BeamRestarting");

    public static void main(String[] words) throws Exception {
        Node node = new Node(words[0]);
        List<String> classes = Arrays.asList(words).subList(1, words.length);
        long giveUp = System.nanoTime() + TimeUnit.SECONDS.toNanos(150);
        tellAll(node, classes.stream().filter(one -> !ALONE.contains(one)), AT_ONCE, giveUp);
        tellAll(node, classes.stream().filter(ALONE::contains), 1, giveUp);
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static void tellAll(Node node, Stream<String> classes, int atOnce, long giveUp)
            throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(atOnce);
        for (String teller : classes.toList()) {
            for (Method story : storiesOf(Class.forName(teller))) {
                pool.submit(() -> tell(story, node));
            }
        }
        pool.shutdown();
        if (!pool.awaitTermination(giveUp - System.nanoTime(), TimeUnit.NANOSECONDS)) {
            Thread.getAllStackTraces().forEach((thread, stack) -> {
                System.err.println(thread + " " + Arrays.toString(stack));
            });
        }
    }

    private static List<Method> storiesOf(Class<?> teller) {
        List<Method> stories = new ArrayList<>();
        for (Method method : teller.getDeclaredMethods()) {
            if (Arrays.equals(method.getParameterTypes(), new Class<?>[] {Node.class})
                    && method.getName().contains("_")) {
                stories.add(method);
            }
        }
        stories.sort(Comparator.comparing(Method::getName));
        return stories;
    }

    private static void tell(Method story, Node node) {
        long begun = System.nanoTime();
        StringBuilder said = new StringBuilder();
        try {
            story.setAccessible(true);
            story.invoke(null, node);
            said.append("ok ").append(story.getName());
        } catch (InvocationTargetException failure) {
            said.append("failed ").append(story.getName());
            StringWriter trace = new StringWriter();
            failure.getCause().printStackTrace(new PrintWriter(trace));
            trace.toString().lines().forEach(line -> said.append("\n    ").append(line));
        } catch (Throwable impossible) {
            said.append("failed ").append(story.getName()).append("\n    ").append(impossible);
        }
        long tookMs = (System.nanoTime() - begun) / 1_000_000;
        synchronized (Stories.class) {
            System.out.println(said);
            System.err.println(story.getName() + ": " + tookMs + " ms");
        }
    }

    private Stories() {}
}
