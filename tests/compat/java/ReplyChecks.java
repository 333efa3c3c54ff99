package compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.hook.SendMessageContext;
import org.apache.rocketmq.client.hook.SendMessageHook;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** What the broker does between its clients: answers that it passes on, queues that it locks. */
final class ReplyChecks {
    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        ReplyChecks checks = new ReplyChecks(cluster);
        report.check("reply", checks::reply);
        report.check("orderly-two-members", checks::orderly);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private ReplyChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    private static String body(Message message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }

    /** What became of each try of a send, the client's own repetitions among them. */
    private static final class Tries implements SendMessageHook {
        private static final String SENT = "sent";
        final ConcurrentLinkedQueue<String> ends = new ConcurrentLinkedQueue<>();

        @Override
        public String hookName() {
            return "tries";
        }

        @Override
        public void sendMessageBefore(SendMessageContext context) {
        }

        @Override
        public void sendMessageAfter(SendMessageContext context) {
            ends.add(context.getException() == null ? SENT : String.valueOf(context.getException()));
        }

        List<String> refused() {
            return ends.stream().filter(end -> !end.equals(SENT)).collect(Collectors.toList());
        }
    }

    private String reply() throws Exception {
        String topic = cluster.topic("Requests", 2);
        DefaultMQProducer asker = session.producer("compat_asker");
        DefaultMQProducer replier = session.producer("compat_replier");
        ConcurrentLinkedQueue<String> failed = new ConcurrentLinkedQueue<>();
        Tries tries = new Tries();
        replier.getDefaultMQProducerImpl().registerSendMessageHook(tries);
        Map<String, Integer> asked = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = session.pusher("compat_requests");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                asked.merge(message.getMsgId(), 1, Integer::sum);
                if (message.getTags().equals("Silent")) {
                    continue;
                }
                try {
                    // Above 4 KiB the client sends it compressed.
                    String answer = body(message) + " " + "y".repeat(message.getTags().equals("Long") ? 20_000 : 1);
                    Message reply = MessageUtil.createReplyMessage(message, Session.bytes(answer));
                    replier.send(reply, 3000);
                } catch (Exception error) {
                    failed.add(String.valueOf(error));
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            for (int at = 0; at < 20; at++) {
                String tag = at % 4 == 0 ? "Long" : "Short";
                Message answer = asker.request(new Message(topic, tag, Session.bytes("question " + at)), 10_000);
                Report.equal("question " + at + " " + "y".repeat(tag.equals("Long") ? 20_000 : 1), body(answer), "answer " + at);
            }
            List<String> answers = new ArrayList<>();
            CountDownLatch done = new CountDownLatch(20);
            for (int at = 0; at < 20; at++) {
                asker.request(new Message(topic, "Short", Session.bytes(String.format("q%02d", at))), new RequestCallback() {
                    @Override
                    public void onSuccess(Message message) {
                        synchronized (answers) {
                            answers.add(body(message));
                        }
                        done.countDown();
                    }

                    @Override
                    public void onException(Throwable error) {
                        failed.add(String.valueOf(error));
                        done.countDown();
                    }
                }, 10_000);
            }
            Report.that(done.await(20, TimeUnit.SECONDS), "20 callbacks, " + done.getCount() + " are missing");
            Report.equal("[]", failed, "failures");
            answers.sort(null);
            for (int at = 0; at < 20; at++) {
                Report.equal(String.format("q%02d y", at), answers.get(at), "callback " + at);
            }
            boolean isLate = false;
            try {
                asker.request(new Message(topic, "Silent", Session.bytes("no answer")), 1000);
            } catch (RequestTimeoutException late) {
                isLate = true;
            }
            Report.that(isLate, "a request without an answer ends with a time-out");
            // Every try of an answer is stored too, also one that is refused because the asker's first heartbeat, which it
            // leaves out when another of its own is under way, has not come yet; the replier's client tries again then.
            long stored = session.puller.maxOffset(session.queues("DefaultCluster_REPLY_TOPIC").get(0));
            List<String> refused = tries.refused();
            Report.equal(40L + refused.size(), stored, "stored answers, of " + tries.ends.size() + " tries, refused " + refused
                + ", for questions delivered " + asked.values());
            Report.equal(40 + refused.size(), tries.ends.size(), "tries of answers");
            Report.that(refused.stream().allMatch(end -> end.contains("push reply message fail, channel of <")), "refused: " + refused);
            Report.equal(41, asked.values().stream().mapToInt(Integer::intValue).sum(), "questions delivered");
            return "20 answers waited for, 20 by callback, 1 time-out, 40 stored" + (refused.isEmpty() ? "" : " and " + refused.size() + " refused before");
        } finally {
            consumer.shutdown();
            asker.shutdown();
            replier.shutdown();
        }
    }

    /** An orderly member: what each queue gave it, in order. */
    private DefaultMQPushConsumer orderlyMember(String topic, ConcurrentLinkedQueue<MessageExt> got) throws Exception {
        DefaultMQPushConsumer consumer = session.pusher("compat_orderly");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            got.addAll(messages);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private static long queuesOf(DefaultMQPushConsumer consumer, String topic) {
        return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().entrySet().stream()
            .filter(entry -> entry.getKey().getTopic().equals(topic) && entry.getValue().isLocked()).count();
    }

    private String orderly() throws Exception {
        String topic = cluster.topic("Orderly", 4);
        ConcurrentLinkedQueue<MessageExt> got = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer one = orderlyMember(topic, got);
        DefaultMQPushConsumer two = null;
        try {
            session.send(topic, "T", 80);
            Report.await("80 messages", 60, () -> got.size() >= 80);
            two = orderlyMember(topic, got);
            DefaultMQPushConsumer second = two;
            Report.await("two locked queues each", 60, () -> queuesOf(one, topic) == 2 && queuesOf(second, topic) == 2);
            session.send(topic, "T", 80);
            Report.await("160 messages", 60, () -> got.size() >= 160);
            Thread.sleep(200);
            Report.equal(160, got.size(), "messages, each once");
            long[] next = new long[4];
            for (MessageExt message : got) {
                Report.equal(next[message.getQueueId()]++, message.getQueueOffset(), "next offset of queue " + message.getQueueId());
            }
            return "160 messages in the order of their queues, 2 locked queues at each of two members";
        } finally {
            one.shutdown();
            if (two != null) {
                two.shutdown();
            }
        }
    }
}
