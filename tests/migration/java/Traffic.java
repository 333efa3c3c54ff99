package compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** Producers and push consumers with the client's defaults, as an application has them, that never stop. */
final class Traffic implements AutoCloseable {
    static final String TOPIC = "Moved";
    private static final int PRODUCERS = 4;
    private static final int BODY = 2000;
    private final Session session;
    private final DefaultMQProducer producer;
    private final List<Thread> threads = new ArrayList<>();
    private final AtomicInteger next = new AtomicInteger();
    private volatile boolean ends;
    /** Nanoseconds of the newest answer, and the longest time without one. */
    private long lastAck = System.nanoTime();
    private long longestGap;
    /** The same of messages that the first group got. */
    private long lastSeen = System.nanoTime();
    private long longestSilence;
    /** Keys of messages that were answered SEND_OK. */
    final Set<String> acked = ConcurrentHashMap.newKeySet();
    final Map<String, Integer> others = new TreeMap<>();
    /** How often each key was consumed, by group. */
    final Map<String, Map<String, AtomicInteger>> seen = new ConcurrentHashMap<>();
    private final Map<String, DefaultMQPushConsumer> consumers = new TreeMap<>();

    Traffic(Session session) throws Exception {
        this.session = session;
        producer = session.producer("moved_producer");
        for (int n = 0; n < PRODUCERS; n++) {
            Thread thread = new Thread(this::produce, "produce-" + n);
            thread.setDaemon(true);
            threads.add(thread);
        }
    }

    void begin() {
        threads.forEach(Thread::start);
    }

    private void produce() {
        while (!ends) {
            String key = "k" + next.getAndIncrement();
            byte[] body = new byte[BODY];
            byte[] head = key.getBytes(StandardCharsets.UTF_8);
            System.arraycopy(head, 0, body, 0, head.length);
            while (!ends && !sent(key, body)) {
                pause(100);
            }
            pause(5);
        }
    }

    /** False when the same message should be sent again. */
    private boolean sent(String key, byte[] body) {
        try {
            SendResult result = producer.send(new Message(TOPIC, "A", key, body));
            boolean ok = result.getSendStatus() == SendStatus.SEND_OK;
            synchronized (this) {
                long now = System.nanoTime();
                if (ok) {
                    acked.add(key);
                } else {
                    others.merge(result.getSendStatus().name(), 1, Integer::sum);
                }
                longestGap = Math.max(longestGap, now - lastAck);
                lastAck = now;
            }
            return true;
        } catch (Exception error) {
            synchronized (this) {
                others.merge("failed", 1, Integer::sum);
            }
            return false;
        }
    }

    private static void pause(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    synchronized void forgetGaps() {
        longestGap = 0;
        longestSilence = 0;
        lastAck = System.nanoTime();
        lastSeen = lastAck;
    }

    private synchronized void consumed() {
        long now = System.nanoTime();
        longestSilence = Math.max(longestSilence, now - lastSeen);
        lastSeen = now;
    }

    synchronized long longestSilenceMillis() {
        return longestSilence / 1_000_000;
    }

    synchronized long longestGapMillis() {
        return Math.max(longestGap, System.nanoTime() - lastAck) / 1_000_000;
    }

    void consume(String group) throws Exception {
        boolean isFirst = seen.isEmpty() || seen.size() == 1 && seen.containsKey(group);
        Map<String, AtomicInteger> mine = seen.computeIfAbsent(group, name -> new ConcurrentHashMap<>());
        DefaultMQPushConsumer consumer = session.pusher(group);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> mine.computeIfAbsent(message.getKeys(), key -> new AtomicInteger()).incrementAndGet());
            if (isFirst) {
                consumed();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        consumers.put(group, consumer);
    }

    void endConsumer(String group) {
        DefaultMQPushConsumer consumer = consumers.remove(group);
        if (consumer != null) {
            consumer.shutdown();
        }
    }

    void endProducers() throws Exception {
        ends = true;
        for (Thread thread : threads) {
            thread.join(10_000);
        }
    }

    Set<String> missing(String group, Set<String> wanted) {
        Set<String> left = new TreeSet<>(wanted);
        left.removeAll(seen.get(group).keySet());
        return left;
    }

    /** How many keys came more than once. */
    long again(String group) {
        return seen.get(group).values().stream().filter(count -> count.get() > 1).count();
    }

    @Override
    public void close() throws Exception {
        endProducers();
        for (String group : new ArrayList<>(consumers.keySet())) {
            endConsumer(group);
        }
        producer.shutdown();
    }
}
