package compat;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.store.OffsetStore;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.header.GetConsumerListByGroupRequestHeader;
import org.apache.rocketmq.common.protocol.header.GetConsumerListByGroupResponseBody;
import org.apache.rocketmq.common.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.common.protocol.heartbeat.MessageModel;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;

/** Push consumers: groups, rebalance, filters. */
final class PushChecks {
    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        PushChecks checks = new PushChecks(cluster);
        report.check("push-two-members", checks::twoMembers);
        report.check("push-tags", checks::tags);
        report.check("push-broadcast", checks::broadcast);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private PushChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    /** A push consumer and all that it was given. */
    static final class Member implements AutoCloseable {
        final DefaultMQPushConsumer consumer;
        final String topic;
        final ConcurrentLinkedQueue<MessageExt> got = new ConcurrentLinkedQueue<>();
        /** The offset behind the last message of each queue. */
        private final Map<MessageQueue, Long> ends = new ConcurrentHashMap<>();

        Member(Session session, String group, String topic, String tags, MessageModel model) throws Exception {
            this.topic = topic;
            consumer = session.pusher(group);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setMessageModel(model);
            consumer.subscribe(topic, tags);
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(message -> ends.merge(context.getMessageQueue(), message.getQueueOffset() + 1, Math::max));
                got.addAll(messages);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
        }

        /** The queue ids it owns of its topic. */
        Set<Integer> queues() {
            return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
                .filter(queue -> queue.getTopic().equals(topic)).map(MessageQueue::getQueueId)
                .collect(Collectors.toCollection(TreeSet::new));
        }

        /**
         * Leaves once the client counts all that it was given as consumed: that is a moment after the listener returned,
         * and `shutdown` does not wait for it. One message of a queue that is not counted holds back all behind it.
         */
        @Override
        public void close() {
            for (int at = 0; at < 200 && !isCounted(); at++) {
                try {
                    Thread.sleep(50);
                } catch (InterruptedException stopped) {
                    throw new IllegalStateException(stopped);
                }
            }
            consumer.shutdown();
        }

        private boolean isCounted() {
            OffsetStore offsets = consumer.getDefaultMQPushConsumerImpl().getOffsetStore();
            return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
                .allMatch(queue -> offsets.readOffset(queue, ReadOffsetType.READ_FROM_MEMORY) >= ends.getOrDefault(queue, -1L));
        }
    }

    private List<String> members(String group) throws Exception {
        GetConsumerListByGroupRequestHeader header = new GetConsumerListByGroupRequestHeader();
        header.setConsumerGroup(group);
        RemotingCommand answer = session.ask(cluster.broker, RequestCode.GET_CONSUMER_LIST_BY_GROUP, header, null);
        if (answer.getCode() != 0) {
            return new ArrayList<>();
        }
        return RemotingSerializable.decode(answer.getBody(), GetConsumerListByGroupResponseBody.class).getConsumerIdList();
    }

    private static Map<String, String> received(Member... members) {
        Map<String, String> got = new ConcurrentHashMap<>();
        for (Member member : members) {
            member.got.forEach(message -> got.put(message.getMsgId(), Session.content(message)));
        }
        return got;
    }

    private static void arrive(int count, Member... members) throws Exception {
        try {
            Report.await(count + " messages", 45, () -> received(members).size() >= count);
        } catch (AssertionError late) {
            throw new AssertionError(late.getMessage() + ", got " + received(members).size());
        }
    }

    private String twoMembers() throws Exception {
        String topic = cluster.topic("PushTwo", 8);
        String group = "compat_push_two";
        Map<String, String> sent = new LinkedHashMap<>(session.send(topic, "T", 100));
        Member one = new Member(session, group, topic, "*", MessageModel.CLUSTERING);
        Member two = null;
        try {
            arrive(100, one);
            Report.same(sent, received(one), "one member");
            Report.equal("[0, 1, 2, 3, 4, 5, 6, 7]", one.queues(), "queues of one member");

            two = new Member(session, group, topic, "*", MessageModel.CLUSTERING);
            Member second = two;
            long rebalanced = Report.await("4 queues each", 25, () -> one.queues().size() == 4 && second.queues().size() == 4);
            Report.that(rebalanced < 15_000, "expected a rebalance on notice, not on the 20 s timer; took " + rebalanced + " ms");
            Set<Integer> all = new TreeSet<>(one.queues());
            all.addAll(two.queues());
            Report.equal(8, all.size(), "queues of both");
            Report.equal(2, members(group).size(), "members in the broker's list");
            Map<String, String> shared = session.send(topic, "T", 200);
            sent.putAll(shared);
            arrive(300, one, second);
            Report.same(sent, received(one, two), "two members");
            Map<String, String> theirs = received(two);
            theirs.keySet().retainAll(shared.keySet());
            int share = theirs.size();
            Report.that(share >= 90 && share <= 110, "expected about half of 200 at the second member, got " + share);

            two.close();
            Report.await("8 queues at the member that stayed", 25, () -> one.queues().size() == 8);
            Report.equal(1, members(group).size(), "members after one left");
            sent.putAll(session.send(topic, "T", 100));
            arrive(400, one, second);
            Report.same(sent, received(one, two), "after one left");
            int repeated = one.got.size() + two.got.size() - 400;
            one.close();
            long committed = 0;
            for (MessageQueue queue : session.queues(topic)) {
                committed += offset(group, queue);
            }
            Report.equal(400, committed, "sum of committed offsets");
            return "400 of 400, " + repeated + " repeated, rebalance in " + rebalanced + " ms, 400 committed";
        } finally {
            one.close();
            if (two != null) {
                two.close();
            }
        }
    }

    private long offset(String group, MessageQueue queue) throws Exception {
        return offset(session, cluster.broker, group, queue);
    }

    static long offset(Session session, String broker, String group, MessageQueue queue) throws Exception {
        var header = new QueryConsumerOffsetRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(queue.getTopic());
        header.setQueueId(queue.getQueueId());
        RemotingCommand answer = session.ask(broker, RequestCode.QUERY_CONSUMER_OFFSET, header, null);
        Report.equal(0, answer.getCode(), "code of an offset query, " + answer.getRemark());
        return Long.parseLong(answer.getExtFields().get("offset"));
    }

    private String tags() throws Exception {
        String topic = cluster.topic("PushTags", 4);
        try (Member member = new Member(session, "compat_push_tags", topic, "TagA || TagC", MessageModel.CLUSTERING)) {
            Map<String, String> sent = new LinkedHashMap<>(session.send(topic, "TagA", 50));
            session.send(topic, "TagB", 50);
            sent.putAll(session.send(topic, "TagC", 50));
            arrive(100, member);
            Thread.sleep(200);
            Report.same(sent, received(member), topic);
            Report.equal(100, member.got.size(), "deliveries");
        }
        return "100 of 150 delivered, each once";
    }

    private String broadcast() throws Exception {
        String topic = cluster.topic("PushBroadcast", 4);
        try (Member one = new Member(session, "compat_push_broadcast", topic, "*", MessageModel.BROADCASTING);
             Member two = new Member(session, "compat_push_broadcast", topic, "*", MessageModel.BROADCASTING)) {
            Report.await("4 queues at each", 30, () -> one.queues().size() == 4 && two.queues().size() == 4);
            Map<String, String> sent = session.send(topic, "T", 60);
            arrive(60, one);
            arrive(60, two);
            Report.same(sent, received(one), "first member");
            Report.same(sent, received(two), "second member");
        }
        return "60 at each of two members";
    }
}
