package compat;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.body.CheckClientRequestBody;
import org.apache.rocketmq.common.protocol.heartbeat.SubscriptionData;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** SQL92 filters by push, pull and lite pull consumers. */
final class FilterChecks {
    private static final String SELECTOR = "TAGS IN ('TagA','TagB') AND a BETWEEN 2 AND 5 OR b IS NOT NULL";

    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        FilterChecks checks = new FilterChecks(cluster);
        report.check("filter-push", checks::push);
        report.check("filter-pull", checks::pull);
        report.check("filter-lite", checks::lite);
        report.check("filter-refused", checks::refused);
    }

    /** A broker without `enablePropertyFilter`. */
    static String off(Session session, String broker) throws Exception {
        RemotingCommand answer = check(session, broker, "a = 1");
        Report.equal(1, answer.getCode(), "code");
        Report.equal("The broker does not support consumer to filter message by SQL92", answer.getRemark(), "remark");
        return "code 1";
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private FilterChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    /** 100 messages: tags in turn, `a` from 0 to 9, every 25th with `b` and without `a`. Answers those that are selected. */
    private Map<String, String> send(String topic) throws Exception {
        Map<String, String> selected = new LinkedHashMap<>();
        for (int at = 0; at < 100; at++) {
            Message message = new Message(topic, "Tag" + (char) ('A' + at % 3), "k" + at, Session.bytes("message " + at));
            boolean wanted = at % 25 == 0;
            if (wanted) {
                message.putUserProperty("b", "x");
            } else {
                message.putUserProperty("a", String.valueOf(at % 10));
                wanted = at % 3 < 2 && at % 10 >= 2 && at % 10 <= 5;
            }
            var result = session.producer.send(message);
            Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status of message " + at);
            if (wanted) {
                selected.put(result.getMsgId(), Session.content(message));
            }
        }
        return selected;
    }

    private String push() throws Exception {
        String topic = cluster.topic("FilterPush", 4);
        DefaultMQPushConsumer consumer = session.pusher("compat_filter_push");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, MessageSelector.bySql(SELECTOR));
        var got = new java.util.concurrent.ConcurrentLinkedQueue<MessageExt>();
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            got.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        try {
            Map<String, String> sent = send(topic);
            consumer.start();
            Report.await(sent.size() + " messages", 30, () -> got.size() >= sent.size());
            // These come while its pulls are parked.
            sent.putAll(send(topic));
            Report.await(sent.size() + " messages", 30, () -> got.size() >= sent.size());
            Thread.sleep(300);
            Report.same(sent, Session.contents(new ArrayList<>(got)), topic);
            return sent.size() + " of 200 delivered, each once";
        } finally {
            consumer.shutdown();
        }
    }

    private String pull() throws Exception {
        String topic = cluster.topic("FilterPull", 2);
        Map<String, String> sent = send(topic);
        List<MessageExt> got = new ArrayList<>();
        List<MessageQueue> queues = session.queues(topic);
        // A client learns the version of a broker from the answer to its heartbeat, and before that pulls by tags alone.
        var client = session.puller.getDefaultMQPullConsumerImpl().getRebalanceImpl().getmQClientFactory();
        Report.await("the version of " + cluster.brokerName, 10, () -> {
            client.sendHeartbeatToAllBrokerWithLock();
            return client.findBrokerAddressInSubscribe(cluster.brokerName, 0, false).getBrokerVersion() > 0;
        });
        for (MessageQueue queue : queues) {
            long end = 50;
            Report.await("50 messages in " + queue, 10, () -> session.puller.maxOffset(queue) == end);
            for (long from = 0; from < end; ) {
                PullResult result = session.puller.pull(queue, MessageSelector.bySql(SELECTOR), from, 8);
                Report.that(result.getNextBeginOffset() > from, "no progress at " + from + ": " + result);
                from = result.getNextBeginOffset();
                if (result.getPullStatus() == PullStatus.FOUND) {
                    got.addAll(result.getMsgFoundList());
                }
            }
        }
        Report.same(sent, Session.contents(got), topic);
        return sent.size() + " of 100 pulled";
    }

    private String lite() throws Exception {
        if (cluster.isJava && Version.LITE_PULL_CODE != RequestCode.PULL_MESSAGE) {
            Report.equal(3, session.ask(cluster.broker, Version.LITE_PULL_CODE, null, null).getCode(), "code of a lite pull");
            return "a 4.9.3 broker does not know request " + Version.LITE_PULL_CODE;
        }
        String topic = cluster.topic("FilterLite", 2);
        Map<String, String> sent = send(topic);
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer("compat_filter_lite");
        consumer.setNamesrvAddr(session.nameServers);
        consumer.setInstanceName(Session.instance());
        consumer.setVipChannelEnabled(false);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, MessageSelector.bySql(SELECTOR));
        List<MessageExt> got = new ArrayList<>();
        consumer.start();
        try {
            Report.await(sent.size() + " messages", 30, () -> {
                got.addAll(consumer.poll(200));
                return got.size() >= sent.size();
            });
            got.addAll(consumer.poll(300));
        } finally {
            consumer.shutdown();
        }
        Report.same(sent, Session.contents(got), topic);
        return sent.size() + " of 100 polled";
    }

    /** A consumer with a wrong expression is told when it starts. */
    private String refused() throws Exception {
        String topic = cluster.topic("FilterRefused", 1);
        for (String wrong : new String[] {"a = ", "a != 5", "a IN (1)", "5"}) {
            DefaultMQPushConsumer consumer = session.pusher("compat_filter_refused");
            consumer.subscribe(topic, MessageSelector.bySql(wrong));
            consumer.registerMessageListener(
                (MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
            try {
                consumer.start();
                throw new AssertionError("a consumer with " + wrong + " has started");
            } catch (MQClientException e) {
                Report.that(e.toString().contains("CODE: 23") || e.getResponseCode() == 23
                    || String.valueOf(e.getCause()).contains("CODE: 23"), "expected code 23, got " + e + ", " + e.getCause());
            } finally {
                consumer.shutdown();
            }
            Report.equal(23, check(session, cluster.broker, wrong).getCode(), "code for " + wrong);
        }
        Report.equal(0, check(session, cluster.broker, "a = 5 AND b <> 'x'").getCode(), "code for a good one");
        return "4 wrong expressions, code 23 each";
    }

    private static RemotingCommand check(Session session, String broker, String expression) throws Exception {
        SubscriptionData subscription = new SubscriptionData("T", expression);
        subscription.setExpressionType("SQL92");
        CheckClientRequestBody body = new CheckClientRequestBody();
        body.setClientId("c");
        body.setGroup("g");
        body.setSubscriptionData(subscription);
        return session.ask(broker, RequestCode.CHECK_CLIENT_CONFIG, null, body.encode());
    }
}
