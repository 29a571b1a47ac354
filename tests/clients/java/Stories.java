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
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

public final class Stories {
    /** Most stories wait for the node's timers: some at once take no more of the processor. */
    private static final int AT_ONCE = 4;

    public static void main(String[] words) throws Exception {
        Node node = new Node(words[0]);
        // Tools share the one standard output of the JVM, and who kills the node kills it for all.
        List<String> classes = Arrays.asList(words);
        boolean alone = classes.contains("Tools") || classes.contains("Restarting");
        ExecutorService pool = Executors.newFixedThreadPool(alone ? 1 : AT_ONCE);
        for (int at = 1; at < words.length; at++) {
            for (Method story : storiesOf(Class.forName(words[at]))) {
                pool.submit(() -> tell(story, node));
            }
        }
        pool.shutdown();
        if (!pool.awaitTermination(150, TimeUnit.SECONDS)) {
            Thread.getAllStackTraces().forEach((thread, stack) -> {
                System.err.println(thread + " " + Arrays.toString(stack));
            });
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
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
