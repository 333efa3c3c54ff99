package compat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;

/** Delay levels, retries and dead letters, on a broker with `messageDelayLevel=` LEVELS. */
final class DelayChecks {
    static final String LEVELS = "messageDelayLevel=1s 3s 1s 2s 1s";

    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        DelayChecks checks = new DelayChecks(cluster);
        report.check("delay-levels", checks::levels);
        report.check("delay-times", checks::times);
        report.check("retry-then-dead", checks::retryThenDead);
        report.check("retry-orderly-dead", checks::orderlyDead);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private DelayChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    /** What a push consumer was given, and when. */
    private static final class Taken {
        final MessageExt message;
        final long at = System.currentTimeMillis();

        Taken(MessageExt message) {
            this.message = message;
        }
    }

    private String levels() throws Exception {
        String topic = cluster.topic("DelayLevels", 4);
        ConcurrentLinkedQueue<Taken> got = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer consumer = session.pusher("compat_delay");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "Late || Now");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> got.add(new Taken(message)));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            MessageQueue queue = session.queues(topic).get(2);
            int[] levels = {2, 1, 1, 1, 0, 99};
            for (int at = 0; at < levels.length; at++) {
                Message message = new Message(topic, levels[at] == 0 ? "Now" : "Late", "k" + at, Session.bytes("late " + at));
                message.putUserProperty("sent", String.valueOf(System.currentTimeMillis()));
                message.setDelayTimeLevel(levels[at]);
                SendResult result = session.producer.send(message, queue);
                Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status of message " + at);
            }
            Report.await("6 messages", 20, () -> got.size() >= 6);
            Thread.sleep(300);
            Report.equal(6, got.size(), "messages");
            long[] wait = {3000, 1000, 1000, 1000, 0, 1000};
            long slowest = 0;
            for (Taken taken : got) {
                MessageExt message = taken.message;
                int at = Integer.parseInt(message.getKeys().substring(1));
                Report.equal("late " + at, new String(message.getBody()), "body");
                Report.equal(topic, message.getTopic(), "topic");
                Report.equal(queue.getQueueId(), message.getQueueId(), "queue of message " + at);
                long took = taken.at - Long.parseLong(message.getUserProperty("sent"));
                Report.that(took >= wait[at], "message " + at + " came after " + took + " ms, expected " + wait[at]);
                slowest = Math.max(slowest, took - wait[at]);
                if (levels[at] > 0) {
                    Report.equal(topic, message.getProperty("REAL_TOPIC"), "REAL_TOPIC of message " + at);
                    Report.equal(Math.min(5, levels[at]), message.getDelayTimeLevel(), "level of message " + at);
                }
            }
            List<Integer> stored = got.stream().map(taken -> taken.message)
                .filter(message -> message.getDelayTimeLevel() == 1)
                .sorted((a, b) -> Long.compare(a.getQueueOffset(), b.getQueueOffset()))
                .map(message -> Integer.parseInt(message.getKeys().substring(1))).collect(Collectors.toList());
            Report.equal("[1, 2, 3]", stored, "order within level 1");
            Report.that(slowest < 3000, "the latest message came " + slowest + " ms after its time");
            String offsets = new String(session.ask(cluster.broker, RequestCode.GET_ALL_DELAY_OFFSET, null, null).getBody());
            Report.that(offsets.contains("offsetTable"), "expected delay offsets, got " + offsets);
            return "6 messages of 3 levels in time, at most " + slowest + " ms after it";
        } finally {
            consumer.shutdown();
        }
    }

    /** Times of their own, as clients of 5.x ask for them. A 4.9.3 broker delivers all of them at once. */
    private String times() throws Exception {
        String topic = cluster.topic("DelayTimes", 4);
        ConcurrentLinkedQueue<Taken> got = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer consumer = session.pusher("compat_times");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "Timed");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> got.add(new Taken(message)));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            MessageQueue queue = session.queues(topic).get(1);
            long[] wait = {2500, 700, 1000, 0, 1600};
            for (int at = 0; at < wait.length; at++) {
                Message message = new Message(topic, "Timed", "k" + at, Session.bytes("timed " + at));
                message.putUserProperty("sent", String.valueOf(System.currentTimeMillis()));
                if (at == 2) {
                    Version.delaySeconds(message, 1);
                } else if (at == 4) {
                    Version.deliverAt(message, System.currentTimeMillis() + wait[at]);
                } else {
                    Version.delayMillis(message, wait[at]);
                }
                SendResult result = session.producer.send(message, queue);
                Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status of message " + at);
                Report.equal(queue.getQueueId(), result.getMessageQueue().getQueueId(), "queue of message " + at);
            }
            Report.await("5 messages", 20, () -> got.size() >= 5);
            Thread.sleep(300);
            Report.equal(5, got.size(), "messages");
            long slowest = 0;
            for (Taken taken : got) {
                MessageExt message = taken.message;
                int at = Integer.parseInt(message.getKeys().substring(1));
                Report.equal("timed " + at, new String(message.getBody()), "body");
                Report.equal(topic, message.getTopic(), "topic");
                Report.equal(queue.getQueueId(), message.getQueueId(), "queue of message " + at);
                Report.equal(0, message.getDelayTimeLevel(), "level of message " + at);
                long took = taken.at - Long.parseLong(message.getUserProperty("sent"));
                if (!cluster.isJava) {
                    Report.that(took >= wait[at], "message " + at + " came after " + took + " ms, expected " + wait[at]);
                    slowest = Math.max(slowest, took - wait[at]);
                }
            }
            Report.that(slowest < 3000, "the latest message came " + slowest + " ms after its time");
            if (!cluster.isJava) {
                Message tooLate = new Message(topic, "Timed", Session.bytes("in a year"));
                Version.delaySeconds(tooLate, 365 * 24 * 3600);
                try {
                    session.producer.send(tooLate, queue);
                    Report.that(false, "a delay of a year was taken");
                } catch (MQBrokerException refused) {
                    Report.equal(13, refused.getResponseCode(), "code of a delay of a year");
                }
            }
            return "5 messages with times of their own, at most " + slowest + " ms after them";
        } finally {
            consumer.shutdown();
        }
    }

    private String retryThenDead() throws Exception {
        String topic = cluster.topic("RetryDead", 2);
        String group = "compat_retry";
        // A client finds the retry topic of a new group with its next look at the routes, up to 30 s later.
        cluster.topic("%RETRY%" + group, 1);
        ConcurrentLinkedQueue<Taken> got = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer consumer = session.pusher(group);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setMaxReconsumeTimes(3);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> got.add(new Taken(message)));
            boolean isHard = new String(messages.get(0).getBody()).startsWith("hard");
            boolean isSecond = messages.get(0).getReconsumeTimes() >= 2;
            return isHard || !isSecond ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            Message hard = new Message(topic, "T", "kh", Session.bytes("hard"));
            Message soft = new Message(topic, "T", "ks", Session.bytes("soft"));
            String hardId = session.producer.send(hard).getMsgId();
            session.producer.send(soft);
            Report.await("4 tries of one and 3 of the other", 25, () -> got.size() >= 7);
            String dead = "%DLQ%" + group;
            List<MessageExt> letters = new ArrayList<>();
            Report.await("a dead letter", 15, () -> {
                letters.clear();
                if (session.route(cluster.nameServer, dead) != null) {
                    letters.addAll(session.pullAll(dead, "*", 1));
                }
                return !letters.isEmpty();
            });
            Thread.sleep(1500);
            Report.equal("[0, 1, 2, 3]", times(got, "hard"), "tries of the hard one");
            Report.equal("[0, 1, 2]", times(got, "soft"), "tries of the soft one");
            Report.equal(1, letters.size(), "dead letters");
            MessageExt letter = letters.get(0);
            Report.equal("hard", new String(letter.getBody()), "body of the dead letter");
            Report.equal(4, letter.getReconsumeTimes(), "its tries");
            Report.equal(hardId, letter.getMsgId(), "its id");
            Report.equal(topic, letter.getProperty("RETRY_TOPIC"), "its topic");
            for (Taken taken : got) {
                Report.equal(topic, taken.message.getTopic(), "topic as the listener sees it");
            }
            return "4 tries and dead, 3 tries and done";
        } finally {
            consumer.shutdown();
        }
    }

    private static List<Integer> times(ConcurrentLinkedQueue<Taken> got, String body) {
        return got.stream().filter(taken -> new String(taken.message.getBody()).equals(body))
            .map(taken -> taken.message.getReconsumeTimes()).collect(Collectors.toList());
    }

    /** An orderly consumer gives up by a normal send to its retry topic. */
    private String orderlyDead() throws Exception {
        String topic = cluster.topic("OrderlyDead", 1);
        String group = "compat_orderly";
        ConcurrentLinkedQueue<Taken> got = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer consumer = session.pusher(group);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setMaxReconsumeTimes(1);
        consumer.setSuspendCurrentQueueTimeMillis(100);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            messages.forEach(message -> got.add(new Taken(message)));
            boolean isHard = new String(messages.get(0).getBody()).equals("hard");
            return isHard ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT : ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        try {
            session.producer.send(new Message(topic, "T", "kh", Session.bytes("hard")));
            session.producer.send(new Message(topic, "T", "ks", Session.bytes("soft")));
            Report.await("the message behind the dead one", 30, () -> times(got, "soft").size() == 1);
            String dead = "%DLQ%" + group;
            Report.await("the route of the dead letters", 15, () -> session.route(cluster.nameServer, dead) != null);
            List<MessageExt> letters = session.pullAll(dead, "*", 1);
            Report.equal(1, letters.size(), "dead letters");
            Report.equal("hard", new String(letters.get(0).getBody()), "body of the dead letter");
            return times(got, "hard").size() + " tries and dead, the next one consumed";
        } finally {
            consumer.shutdown();
        }
    }
}
