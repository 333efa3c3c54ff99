package compat;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.header.PullMessageRequestHeader;
import org.apache.rocketmq.common.protocol.header.PullMessageResponseHeader;
import org.apache.rocketmq.common.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.common.protocol.header.UpdateConsumerOffsetRequestHeader;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** Pulling, filtering by tag, offsets and long polling. */
final class ReadChecks {
    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        ReadChecks checks = new ReadChecks(cluster);
        report.check("tags", checks::tags);
        report.check("pull-statuses", checks::statuses);
        report.check("pull-consumer", checks::pullConsumer);
        report.check("pull-long-poll", checks::longPoll);
        report.check("offsets-min-max", checks::minMax);
        report.check("offsets-by-time", checks::byTime);
        report.check("offsets-stored", checks::stored);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private ReadChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    private String tags() throws Exception {
        String topic = cluster.topic("Tags", 2);
        Map<String, Map<String, String>> sent = new LinkedHashMap<>();
        for (int at = 0; at < 100; at++) {
            String tag = at % 5 < 2 ? "TagA" : at % 5 < 4 ? "TagB" : null;
            Message message = new Message(topic, tag, Session.bytes("tags " + at));
            sent.computeIfAbsent(String.valueOf(tag), unused -> new LinkedHashMap<>())
                .put(session.producer.send(message).getMsgId(), Session.content(message));
        }
        Map<String, String> both = new LinkedHashMap<>(sent.get("TagA"));
        both.putAll(sent.get("TagB"));
        Map<String, String> all = new LinkedHashMap<>(both);
        all.putAll(sent.get("null"));
        Report.same(sent.get("TagA"), Session.contents(session.pullAll(topic, "TagA", 100)), "TagA");
        Report.same(both, Session.contents(session.pullAll(topic, "TagA || TagB || TagC", 100)), "TagA || TagB || TagC");
        Report.same(all, Session.contents(session.pullAll(topic, "*", 100)), "*");
        Report.equal(0, session.pullAll(topic, "TagC", 100).size(), "TagC");
        // The client filters once more by itself, so ask without it: the broker must have filtered.
        int filtered = 0;
        for (MessageQueue queue : session.queues(topic)) {
            for (MessageExt message : bare(queue, 0, "TagA", 100)) {
                Report.equal("TagA", message.getTags(), "tag of a message that the broker let through");
                filtered++;
            }
        }
        Report.equal(40, filtered, "messages that the broker let through for TagA");
        return "TagA 40, TagA||TagB||TagC 80, * 100, TagC 0; filtered at the broker";
    }

    private PullMessageRequestHeader header(MessageQueue queue, long offset, String tags, int count, int sysFlag) {
        PullMessageRequestHeader header = new PullMessageRequestHeader();
        header.setConsumerGroup("compat_bare");
        header.setTopic(queue.getTopic());
        header.setQueueId(queue.getQueueId());
        header.setQueueOffset(offset);
        header.setMaxMsgNums(count);
        header.setSysFlag(sysFlag);
        header.setCommitOffset(0L);
        header.setSuspendTimeoutMillis(0L);
        header.setSubscription(tags);
        header.setSubVersion(0L);
        header.setExpressionType("TAG");
        return header;
    }

    private static final int SUBSCRIPTION = 4;

    private List<MessageExt> bare(MessageQueue queue, long offset, String tags, int count) throws Exception {
        RemotingCommand answer = session.ask(cluster.broker, RequestCode.PULL_MESSAGE, header(queue, offset, tags, count, SUBSCRIPTION), null);
        Report.equal(0, answer.getCode(), "code of a pull, remark " + answer.getRemark());
        return MessageDecoder.decodes(java.nio.ByteBuffer.wrap(answer.getBody()));
    }

    private String statuses() throws Exception {
        String topic = cluster.topic("PullStatuses", 1);
        MessageQueue queue = session.queues(topic).get(0);
        status(queue, "*", 0, PullStatus.NO_NEW_MSG, 0, 0, 0);
        session.send(topic, "A", 40);
        session.pullAll(topic, "*", 40);
        PullResult found = session.puller.pull(queue, "*", 0, 32);
        Report.equal(PullStatus.FOUND, found.getPullStatus(), "status at 0");
        Report.equal(32, found.getMsgFoundList().size(), "messages at 0");
        Report.equal(32, found.getNextBeginOffset(), "next offset at 0");
        Report.equal(40, found.getMaxOffset(), "max offset in the answer");
        Report.equal(0, found.getMinOffset(), "min offset in the answer");
        Report.equal(5, session.puller.pull(queue, "*", 3, 5).getMsgFoundList().size(), "messages with limit 5");
        status(queue, "*", 40, PullStatus.NO_NEW_MSG, 40, 0, 40);
        status(queue, "*", 41, PullStatus.OFFSET_ILLEGAL, 0, 0, 40); // with min 0 Java sends the client back to 0
        status(queue, "B", 0, PullStatus.NO_MATCHED_MSG, 40, 0, 40);
        PullMessageRequestHeader missing = header(new MessageQueue("NoSuchTopic", cluster.brokerName, 0), 0, "*", 1, SUBSCRIPTION);
        RemotingCommand answer = session.ask(cluster.broker, RequestCode.PULL_MESSAGE, missing, null);
        Report.equal(17, answer.getCode(), "code for a topic that does not exist");
        answer = session.ask(cluster.broker, RequestCode.PULL_MESSAGE,
            header(new MessageQueue(topic, cluster.brokerName, 7), 0, "*", 1, SUBSCRIPTION), null);
        Report.equal(1, answer.getCode(), "code for queue 7 of 1");
        answer = session.ask(cluster.broker, RequestCode.PULL_MESSAGE, header(queue, 0, "*", 1, SUBSCRIPTION), null);
        PullMessageResponseHeader reply =
            (PullMessageResponseHeader) answer.decodeCommandCustomHeader(PullMessageResponseHeader.class);
        Report.equal(0, reply.getSuggestWhichBrokerId(), "suggested broker id");
        return "found 32 and 5, none new, offset illegal, none matched, codes 17 and 1";
    }

    private void status(MessageQueue queue, String tags, long from, PullStatus status, long next, long min, long max) throws Exception {
        PullResult result = session.puller.pull(queue, tags, from, 64);
        Report.equal(status + " " + next + " " + min + " " + max, result.getPullStatus() + " " + result.getNextBeginOffset() + " "
            + result.getMinOffset() + " " + result.getMaxOffset(), "status, next, min, max of " + tags + " from " + from);
    }

    /** A pull consumer as the book shows it: loop over the queues, keep an offset for each, store it at the broker. */
    private String pullConsumer() throws Exception {
        String topic = cluster.topic("PullConsumer", 4);
        Map<String, String> sent = session.send(topic, "T", 150);
        session.pullAll(topic, "*", 150);
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer("compat_pull_" + topic);
        consumer.setNamesrvAddr(cluster.nameServer);
        consumer.setInstanceName(Session.instance());
        consumer.start();
        List<MessageExt> got = new ArrayList<>();
        try {
            Report.equal(4, consumer.fetchSubscribeMessageQueues(topic).size(), "queues");
            for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(topic)) {
                long next = 0;
                PullResult result;
                while ((result = consumer.pull(queue, "*", next, 10)).getPullStatus() == PullStatus.FOUND) {
                    got.addAll(result.getMsgFoundList());
                    next = result.getNextBeginOffset();
                }
                Report.equal(PullStatus.NO_NEW_MSG, result.getPullStatus(), "status at the end of " + queue);
                consumer.getDefaultMQPullConsumerImpl().getOffsetStore().updateConsumeOffsetToBroker(queue, next, false);
                Report.equal(next, consumer.getDefaultMQPullConsumerImpl().getOffsetStore().readOffset(queue, ReadOffsetType.READ_FROM_STORE),
                    "offset stored at the broker");
            }
        } finally {
            consumer.shutdown();
        }
        Report.same(sent, Session.contents(got), topic);
        return "150 pulled from 4 queues in tens, 4 offsets stored";
    }

    private String longPoll() throws Exception {
        String topic = cluster.topic("LongPoll", 1);
        MessageQueue queue = session.queues(topic).get(0);
        long worst = 0;
        for (int round = 0; round < 5; round++) {
            long from = round;
            PullResult[] answer = new PullResult[1];
            long[] end = new long[1];
            Thread waiter = new Thread(() -> {
                try {
                    answer[0] = session.puller.pullBlockIfNotFound(queue, "*", from, 32);
                    end[0] = System.nanoTime();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            waiter.start();
            Thread.sleep(300);
            Report.that(waiter.isAlive(), "expected the pull to wait");
            long sent = System.nanoTime();
            session.send(topic, "T", 1);
            waiter.join(10_000);
            Report.that(answer[0] != null && answer[0].getPullStatus() == PullStatus.FOUND, "expected FOUND, got " + answer[0]);
            Report.equal(1, answer[0].getMsgFoundList().size(), "messages");
            worst = Math.max(worst, (end[0] - sent) / 1_000_000);
        }
        Report.that(worst < 1500, "expected arrival to delivery under 1500 ms, got " + worst);
        long begun = System.nanoTime();
        PullResult none = session.puller.pullBlockIfNotFound(queue, "*", 5, 32);
        long waited = (System.nanoTime() - begun) / 1_000_000;
        Report.equal(PullStatus.NO_NEW_MSG, none.getPullStatus(), "status after the wait");
        Report.that(waited >= 2900 && waited < 9000, "expected a wait of 3 s (Java looks every 5 s), got " + waited + " ms");
        return "5 delivered to a waiting pull within " + worst + " ms; none after " + waited + " ms";
    }

    private String minMax() throws Exception {
        String topic = cluster.topic("MinMax", 3);
        List<MessageQueue> queues = session.queues(topic);
        for (MessageQueue queue : queues) {
            Report.equal("0 0", session.puller.minOffset(queue) + " " + session.puller.maxOffset(queue), "empty " + queue);
        }
        for (int at = 0; at < 60; at++) {
            session.producer.send(new Message(topic, Session.bytes("m" + at)), queues.get(at % 3 == 0 ? 0 : 1));
        }
        session.pullAll(topic, "*", 60);
        Report.equal("20 40 0", session.puller.maxOffset(queues.get(0)) + " " + session.puller.maxOffset(queues.get(1)) + " "
            + session.puller.maxOffset(queues.get(2)), "max offsets");
        Report.equal("0 0 0", session.puller.minOffset(queues.get(0)) + " " + session.puller.minOffset(queues.get(1)) + " "
            + session.puller.minOffset(queues.get(2)), "min offsets");
        return "max 20, 40, 0; min 0, 0, 0";
    }

    private String byTime() throws Exception {
        String topic = cluster.topic("ByTime", 1);
        MessageQueue queue = session.queues(topic).get(0);
        Report.equal(0, session.puller.searchOffset(queue, System.currentTimeMillis()), "offset in an empty queue");
        for (int at = 0; at < 10; at++) {
            session.send(topic, "T", 1);
            Thread.sleep(20);
        }
        List<MessageExt> messages = session.pullQueue(queue, "*", 0, 10);
        for (int at = 0; at < 10; at++) {
            long stored = messages.get(at).getStoreTimestamp();
            Report.equal(at, session.puller.searchOffset(queue, stored), "offset at the time of message " + at);
            if (at > 0) {
                // Between two messages Java answers the nearer one.
                Report.equal(at, session.puller.searchOffset(queue, stored - 5), "offset 5 ms before message " + at);
                long before = messages.get(at - 1).getStoreTimestamp();
                Report.equal(at - 1, session.puller.searchOffset(queue, before + 5), "offset 5 ms after message " + (at - 1));
            }
        }
        Report.equal(0, session.puller.searchOffset(queue, messages.get(0).getStoreTimestamp() - 1000), "offset before the first");
        Report.equal(9, session.puller.searchOffset(queue, messages.get(9).getStoreTimestamp() + 1000), "offset after the last");
        return "10 exact, 9 between, before the first 0, after the last 9, empty 0";
    }

    private String stored() throws Exception {
        String topic = cluster.topic("Stored", 2);
        session.send(topic, "T", 10);
        Report.equal("0 0", query("compat_new", topic, 0), "a young queue without a stored offset");
        Report.equal(0, update("compat_new", topic, 0, 3), "code of an update");
        Report.equal("0 3", query("compat_new", topic, 0), "after an update to 3");
        Report.equal(0, update("compat_new", topic, 0, 2), "code of a step back");
        Report.equal("0 2", query("compat_new", topic, 0), "after a step back to 2");
        Report.equal("0 0", query("compat_new", topic, 1), "the other queue");
        Report.equal("0 0", query("compat_other", topic, 0), "another group");
        // The commit that travels in a pull.
        MessageQueue queue = session.queues(topic).get(0);
        PullMessageRequestHeader header = header(queue, 0, "*", 1, SUBSCRIPTION | 1);
        header.setCommitOffset(4L);
        session.ask(cluster.broker, RequestCode.PULL_MESSAGE, header, null);
        Report.equal("0 4", query("compat_bare", topic, 0), "after a pull with commitOffset 4");
        Report.equal("0 0", query("compat_new", "NoSuchTopic", 0), "a topic that does not exist");
        return "young 0, updated 3, back 2, by pull 4";
    }

    private int update(String group, String topic, int queue, long offset) throws Exception {
        UpdateConsumerOffsetRequestHeader header = new UpdateConsumerOffsetRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(queue);
        header.setCommitOffset(offset);
        return session.ask(cluster.broker, RequestCode.UPDATE_CONSUMER_OFFSET, header, null).getCode();
    }

    private String query(String group, String topic, int queue) throws Exception {
        QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(queue);
        RemotingCommand answer = session.ask(cluster.broker, RequestCode.QUERY_CONSUMER_OFFSET, header, null);
        return answer.getCode() + " " + (answer.getExtFields() == null ? null : answer.getExtFields().get("offset"));
    }
}
