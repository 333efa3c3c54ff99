package compat;

import java.text.SimpleDateFormat;
import java.util.ArrayList;
import java.util.Date;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.hook.ConsumeMessageContext;
import org.apache.rocketmq.client.hook.ConsumeMessageHook;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The listeners that the chapter on best practice gives, as they stand there. */
final class ChapterChecks {
    private static final int BATCH = 1000;
    private static final int BEHIND = 500;
    private static final int BURST = 100;
    private static final int ENOUGH = 3000;

    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        ChapterChecks checks = new ChapterChecks(cluster);
        report.check("chapter-skip-backlog", checks::skipBacklog);
        report.check("chapter-measured-consumption", checks::measured);
        report.check("chapter-listener-outcomes", checks::listenerOutcomes);
        report.check("chapter-orderly-suspend", checks::orderlySuspend);
        report.check("chapter-new-group", checks::newGroup);
        report.check("chapter-delay-order", checks::delayOrder);
        report.check("chapter-rewind", checks::rewind);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private ChapterChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    private DefaultMQPushConsumer consumer(String topic, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer consumer = session.pusher("compat_" + topic);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(listener);
        return consumer;
    }

    /** Skips what lies too far back; what it skips and does is noted by queue offset. */
    private static final class Skipping implements MessageListenerConcurrently {
        final Map<Long, Integer> skipped = new ConcurrentHashMap<>();
        final Map<Long, Integer> done = new ConcurrentHashMap<>();

        @Override
        public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> msgs, ConsumeConcurrentlyContext context) {
            long offset = msgs.get(0).getQueueOffset();
            String maxOffset = msgs.get(0).getProperty(MessageConst.PROPERTY_MAX_OFFSET);
            long diff = Long.parseLong(maxOffset) - offset;
            if (diff > 100000) {
                skipped.merge(offset, 1, Integer::sum);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
            done.merge(offset, 1, Integer::sum);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        }
    }

    private String skipBacklog() throws Exception {
        String topic = cluster.topic("ChapterBacklog", 1);
        int total = 100_000 + BEHIND;
        for (int from = 0; from < total; from += BATCH) {
            List<Message> members = new ArrayList<>();
            for (int at = from; at < Math.min(total, from + BATCH); at++) {
                members.add(new Message(topic, Session.bytes("m" + at)));
            }
            SendResult result = session.producer.send(members, 10_000);
            Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status of a batch");
        }
        Report.await(total + " messages in the queue", 20, () -> session.puller.maxOffset(session.queues(topic).get(0)) == total);
        Skipping listener = new Skipping();
        DefaultMQPushConsumer consumer = consumer(topic, listener);
        consumer.start();
        try {
            Report.await(ENOUGH + " consumed", 60, () -> listener.skipped.size() + listener.done.size() >= ENOUGH);
        } finally {
            consumer.shutdown();
        }
        Set<Long> expected = new HashSet<>();
        for (long offset = 0; offset < BEHIND; offset++) {
            expected.add(offset);
        }
        Report.equal(BEHIND, listener.skipped.size(), "messages skipped");
        Report.that(listener.skipped.keySet().equals(expected), "expected offsets 0 to 499 skipped, got " + listener.skipped.keySet());
        Report.that(listener.done.keySet().stream().allMatch(offset -> offset >= BEHIND), "expected no early offset consumed");
        Report.equal(0L, listener.skipped.values().stream().filter(times -> times > 1).count(), "messages skipped twice");
        return total + " waiting: 500 of more than 100000 behind skipped, the next " + (ENOUGH - BEHIND) + " not";
    }

    /** Takes the place of a logger. */
    private static final class Log {
        final ConcurrentLinkedQueue<String> lines = new ConcurrentLinkedQueue<>();

        void info(String line) {
            lines.add(line);
        }
    }

    /** What is known of each consumption before and after it. */
    private static final class Measure implements ConsumeMessageHook {
        final AtomicInteger begun = new AtomicInteger();
        final ConcurrentLinkedQueue<String> ends = new ConcurrentLinkedQueue<>();
        final ConcurrentLinkedQueue<Long> micros = new ConcurrentLinkedQueue<>();
        private final ThreadLocal<Long> at = new ThreadLocal<>();

        @Override
        public String hookName() {
            return "measure";
        }

        @Override
        public void consumeMessageBefore(ConsumeMessageContext context) {
            begun.incrementAndGet();
            at.set(System.nanoTime());
        }

        @Override
        public void consumeMessageAfter(ConsumeMessageContext context) {
            micros.add((System.nanoTime() - at.get()) / 1000);
            ends.add(context.getStatus() + " " + context.isSuccess() + " " + context.getMsgList().size());
        }
    }

    private String measured() throws Exception {
        String topic = cluster.topic("ChapterMeasured", 4);
        Map<String, String> sent = session.send(topic, "T", 40);
        Log log = new Log();
        Measure measure = new Measure();
        DefaultMQPushConsumer consumer = consumer(topic, (msgs, context) -> {
            log.info("RECEIVE_MSG_BEGIN: " + msgs.toString());
            try {
                Thread.sleep(5);
            } catch (InterruptedException interrupted) {
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.getDefaultMQPushConsumerImpl().registerConsumeMessageHook(measure);
        consumer.start();
        try {
            Report.await("40 consumptions", 60, () -> measure.ends.size() >= 40);
            Thread.sleep(300);
        } finally {
            consumer.shutdown();
        }
        Report.equal("40 40 40", measure.begun.get() + " " + measure.ends.size() + " " + log.lines.size(), "begun, ended, logged");
        for (String end : measure.ends) {
            Report.equal("CONSUME_SUCCESS true 1", end, "end of a consumption");
        }
        for (String id : sent.keySet()) {
            long lines = log.lines.stream().filter(line -> line.startsWith("RECEIVE_MSG_BEGIN: [MessageExt [") && line.contains(id)
                && line.contains("topic='" + topic + "'")).count();
            Report.equal(1L, lines, "lines of the log with " + id);
        }
        long least = measure.micros.stream().mapToLong(Long::longValue).min().getAsLong();
        Report.that(least >= 5000, "expected at least 5 ms for each consumption, got " + least + " us");
        return "40 logged and measured, each once, at least 5 ms each";
    }

    /** What a listener did with each message, by its tag: how many tries. */
    private String listenerOutcomes() throws Exception {
        String topic = cluster.topic("ChapterOutcomes", 2);
        Map<String, AtomicInteger> tries = new ConcurrentHashMap<>();
        String[] ways = {"later", "throw", "null", "good"};
        for (String way : ways) {
            session.send(topic, way, 3);
            tries.put(way, new AtomicInteger());
        }
        DefaultMQPushConsumer consumer = consumer(topic, (msgs, context) -> {
            context.setDelayLevelWhenNextConsume(1);
            String way = msgs.get(0).getTags();
            tries.get(way).incrementAndGet();
            if (msgs.get(0).getReconsumeTimes() == 0) {
                switch (way) {
                    case "later":
                        return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                    case "throw":
                        throw new IllegalStateException("as the chapter says not to");
                    case "null":
                        return null;
                    default:
                        break;
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            Report.await("21 tries", 75, () -> tries.values().stream().mapToInt(AtomicInteger::get).sum() >= 21);
            Thread.sleep(2000);
        } finally {
            consumer.shutdown();
        }
        for (String way : ways) {
            Report.equal(way.equals("good") ? 3 : 6, tries.get(way).get(), "tries of 3 messages, " + way);
        }
        return "3 sent back, 3 thrown at, 3 without a status: two tries each; 3 good ones: one";
    }

    /** The first message of each queue is refused three times: what lies behind it waits. */
    private String orderlySuspend() throws Exception {
        String topic = cluster.topic("ChapterSuspend", 2);
        session.send(topic, "T", 20);
        ConcurrentLinkedQueue<String> tried = new ConcurrentLinkedQueue<>();
        Map<Integer, AtomicInteger> refused = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = session.pusher("compat_" + topic);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (msgs, context) -> {
            context.setSuspendCurrentQueueTimeMillis(100);
            MessageExt message = msgs.get(0);
            tried.add(message.getQueueId() + ":" + message.getQueueOffset());
            AtomicInteger times = refused.computeIfAbsent(message.getQueueId(), queue -> new AtomicInteger());
            if (message.getQueueOffset() == 0 && times.incrementAndGet() <= 3) {
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        try {
            Report.await("26 tries", 60, () -> tried.size() >= 26);
            Thread.sleep(500);
        } finally {
            consumer.shutdown();
        }
        for (int queue = 0; queue < 2; queue++) {
            String own = queue + ":";
            List<String> expected = new ArrayList<>(List.of(own + 0, own + 0, own + 0));
            for (int offset = 0; offset < 10; offset++) {
                expected.add(own + offset);
            }
            Report.equal(expected, tried.stream().filter(at -> at.startsWith(own)).collect(Collectors.toList()), "tries of queue " + queue);
        }
        return "2 queues waited for a message refused three times, then 10 each in order";
    }

    private int consumedFrom(ConsumeFromWhere where, String topic, String timestamp, int expected) throws Exception {
        AtomicInteger got = new AtomicInteger();
        DefaultMQPushConsumer consumer = session.pusher("compat_" + where);
        consumer.setConsumeFromWhere(where);
        consumer.setConsumeTimestamp(timestamp);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (msgs, context) -> {
            got.addAndGet(msgs.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            Report.await(expected + " messages by " + where, 60, () -> got.get() >= expected);
            Thread.sleep(500);
        } finally {
            consumer.shutdown();
        }
        return got.get();
    }

    private String newGroup() throws Exception {
        String topic = cluster.topic("ChapterNewGroup", 2);
        session.send(topic, "T", 20);
        Thread.sleep(1500); // the client knows whole seconds
        String between = new SimpleDateFormat("yyyyMMddHHmmss").format(new Date());
        Thread.sleep(1000);
        session.send(topic, "T", 10);
        // The broker answers 0 for a queue that has lost nothing yet and whose messages are still in memory, so that where
        // to begin makes no difference there.
        for (ConsumeFromWhere where : new ConsumeFromWhere[] {ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET,
            ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, ConsumeFromWhere.CONSUME_FROM_TIMESTAMP}) {
            Report.equal(30, consumedFrom(where, topic, between, 30), "messages by " + where);
        }
        return "a young queue is read from 0, 30 messages, by first offset, last offset and timestamp";
    }

    private String delayOrder() throws Exception {
        String topic = cluster.topic("ChapterDelayOrder", 1);
        List<String> sent = new ArrayList<>();
        for (int at = 0; at < 1000; at++) {
            Message message = new Message(topic, Session.bytes("delayed " + at));
            message.setDelayTimeLevel(1);
            sent.add(session.producer.send(message).getMsgId());
        }
        MessageQueue queue = session.queues(topic).get(0);
        Report.await("1000 messages delivered", 60, () -> session.puller.maxOffset(queue) >= 1000);
        List<String> got = session.pullQueue(queue, "*", 0, 1000).stream().map(MessageExt::getMsgId).collect(Collectors.toList());
        for (int at = 0; at < 1000; at++) {
            Report.equal(sent.get(at), got.get(at), "message at queue offset " + at);
        }
        return "1000 of one level in the order of the sends";
    }

    /** Two messages whose store times are a millisecond apart, and no other shares theirs. */
    private String rewind() throws Exception {
        MessageQueue queue = session.queues(cluster.topic("ChapterRewind", 1)).get(0);
        for (int count = BURST; count <= 20 * BURST; count += BURST) {
            for (int at = 0; at < BURST; at++) {
                // Without waiting for answers: a machine on which that takes long would never send two within 1 ms.
                session.producer.sendOneway(new Message(queue.getTopic(), Session.bytes("paced " + at)), queue);
                Thread.sleep(1);
            }
            int end = count;
            Report.await("the last of " + count + " messages", 20, () -> session.puller.maxOffset(queue) == end);
            List<MessageExt> all = session.pullQueue(queue, "*", 0, count);
            long[] times = all.stream().mapToLong(MessageExt::getStoreTimestamp).toArray();
            for (int at = Math.max(1, count - BURST - 2); at + 2 < count; at++) {
                if (times[at - 1] == times[at] || times[at] + 1 != times[at + 1] || times[at + 1] == times[at + 2]) {
                    continue;
                }
                Report.equal(at, session.puller.searchOffset(queue, times[at]), "offset at the time of the first");
                long second = session.puller.searchOffset(queue, times[at + 1]);
                Report.equal(at + 1, second, "offset at the time of the second, 1 ms later");
                Report.equal(all.get(at + 1).getMsgId(), session.pullQueue(queue, "*", second, second + 1).get(0).getMsgId(), "the second");
                return "rewound between two messages 1 ms apart, of " + count;
            }
        }
        throw new AssertionError("expected two messages stored 1 ms apart among " + 20 * BURST);
    }
}
