package compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.body.ClusterInfo;
import org.apache.rocketmq.common.protocol.header.CreateTopicRequestHeader;
import org.apache.rocketmq.common.protocol.header.namesrv.GetRouteInfoRequestHeader;
import org.apache.rocketmq.common.protocol.route.QueueData;
import org.apache.rocketmq.common.protocol.route.TopicRouteData;
import org.apache.rocketmq.remoting.CommandCustomHeader;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;

/** What every check starts from: a producer, a puller and a bare connection to one cluster. */
final class Session implements AutoCloseable {
    private static int instances;
    final String nameServers;
    final DefaultMQProducer producer;
    final DefaultMQPullConsumer puller;
    final NettyRemotingClient bare = new NettyRemotingClient(new NettyClientConfig());

    Session(String nameServers) throws Exception {
        this.nameServers = nameServers;
        producer = producer("compat_producer");
        puller = new DefaultMQPullConsumer("compat_puller");
        puller.setNamesrvAddr(nameServers);
        puller.setInstanceName(instance());
        puller.setBrokerSuspendMaxTimeMillis(3000);
        puller.setVipChannelEnabled(false);
        puller.start();
        bare.start();
    }

    static synchronized String instance() {
        return "compat-" + ProcessHandle.current().pid() + "-" + instances++;
    }

    DefaultMQProducer producer(String group) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        producer.setNamesrvAddr(nameServers);
        producer.setInstanceName(instance());
        producer.setVipChannelEnabled(false);
        producer.start();
        return producer;
    }

    interface Answer {
        LocalTransactionState to(MessageExt message);
    }

    /** The local transaction ends as the argument of the send says; `answer` is what is told when the broker asks. */
    TransactionMQProducer transactional(String group, Answer answer) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(group);
        producer.setNamesrvAddr(nameServers);
        producer.setInstanceName(instance());
        producer.setVipChannelEnabled(false);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object how) {
                return (LocalTransactionState) how;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return answer.to(message);
            }
        });
        producer.start();
        return producer;
    }

    /** A producer tells a broker that it lives once it knows it by some topic. */
    static void announce(TransactionMQProducer producer, String topic) throws Exception {
        producer.fetchPublishMessageQueues(topic);
        producer.getDefaultMQProducerImpl().getmQClientFactory().updateTopicRouteInfoFromNameServer(topic);
        producer.getDefaultMQProducerImpl().getmQClientFactory().sendHeartbeatToAllBrokerWithLock();
    }

    /** Not started yet. */
    DefaultMQPushConsumer pusher(String group) {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(nameServers);
        consumer.setInstanceName(instance());
        consumer.setVipChannelEnabled(false);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        Heartbeats.prepare(consumer);
        return consumer;
    }

    RemotingCommand ask(String address, int code, CommandCustomHeader header, byte[] body) throws Exception {
        RemotingCommand request = RemotingCommand.createRequestCommand(code, header);
        request.setBody(body);
        return bare.invokeSync(address, request, 5000);
    }

    /** Waits until a name server knows that many brokers. Answers address by broker name. */
    Map<String, String> brokers(String nameServer, int count) throws Exception {
        Map<String, String> found = new TreeMap<>();
        Report.await(count + " brokers at " + nameServer, 30, () -> {
            RemotingCommand answer = ask(nameServer, RequestCode.GET_BROKER_CLUSTER_INFO, null, null);
            found.clear();
            if (answer.getCode() == 0 && answer.getBody() != null) {
                ClusterInfo info = RemotingSerializable.decode(answer.getBody(), ClusterInfo.class);
                info.getBrokerAddrTable().forEach((name, data) -> found.put(name, data.getBrokerAddrs().get(0L)));
            }
            return found.size() == count;
        });
        return found;
    }

    /** Creates a topic on a broker and waits until every name server routes it there. */
    void topic(String topic, int queues, String broker, String brokerName) throws Exception {
        CreateTopicRequestHeader header = new CreateTopicRequestHeader();
        header.setTopic(topic);
        header.setDefaultTopic("TBW102");
        header.setReadQueueNums(queues);
        header.setWriteQueueNums(queues);
        header.setPerm(6);
        header.setTopicFilterType("SINGLE_TAG");
        header.setTopicSysFlag(0);
        header.setOrder(false);
        Report.equal(0, ask(broker, RequestCode.UPDATE_AND_CREATE_TOPIC, header, null).getCode(), "create " + topic);
        for (String nameServer : nameServers.split(";")) {
            Report.await("route of " + topic + " to " + brokerName, 15, () -> {
                TopicRouteData route = route(nameServer, topic);
                return route != null && route.getQueueDatas().stream().anyMatch(
                    (QueueData data) -> data.getBrokerName().equals(brokerName) && data.getWriteQueueNums() == queues);
            });
        }
    }

    /** Null when the name server does not know the topic. */
    TopicRouteData route(String nameServer, String topic) throws Exception {
        GetRouteInfoRequestHeader header = new GetRouteInfoRequestHeader();
        header.setTopic(topic);
        RemotingCommand answer = ask(nameServer, RequestCode.GET_ROUTEINFO_BY_TOPIC, header, null);
        return answer.getCode() == 0 ? RemotingSerializable.decode(answer.getBody(), TopicRouteData.class) : null;
    }

    List<MessageQueue> queues(String topic) throws Exception {
        List<MessageQueue> queues = new ArrayList<>(puller.fetchSubscribeMessageQueues(topic));
        queues.sort(Comparator.naturalOrder());
        return queues;
    }

    /** Sends `count` messages one after another; every answer must be SEND_OK. Answers content by message id. */
    Map<String, String> send(String topic, String tag, int count) throws Exception {
        Map<String, String> sent = new LinkedHashMap<>();
        for (int at = 0; at < count; at++) {
            Message message = new Message(topic, tag, "k" + at, bytes(topic + " message " + at));
            SendResult result = producer.send(message);
            Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status of message " + at);
            sent.put(result.getMsgId(), content(message));
        }
        return sent;
    }

    /**
     * Every message of a topic, from min to max offset of each queue, in order; offsets must be dense. Waits first until
     * the queues together hold `total`: the Java broker fills them a moment after it has answered the sender.
     */
    List<MessageExt> pullAll(String topic, String tags, int total) throws Exception {
        Report.await(total + " messages in the queues of " + topic, 10, () -> held(topic) >= total);
        List<MessageExt> got = new ArrayList<>();
        for (MessageQueue queue : queues(topic)) {
            got.addAll(pullQueue(queue, tags, puller.minOffset(queue), puller.maxOffset(queue)));
        }
        return got;
    }

    private long held(String topic) throws Exception {
        long held = 0;
        for (MessageQueue queue : queues(topic)) {
            held += puller.maxOffset(queue);
        }
        return held;
    }

    List<MessageExt> pullQueue(MessageQueue queue, String tags, long from, long end) throws Exception {
        List<MessageExt> got = new ArrayList<>();
        Report.await("max offset " + end + " of " + queue, 10, () -> puller.maxOffset(queue) >= end);
        while (from < end) {
            PullResult result = puller.pull(queue, tags, from, 32);
            Report.that(result.getPullStatus() == PullStatus.FOUND || !tags.equals("*"),
                queue + " offset " + from + " of " + end + ": expected FOUND, got " + result);
            Report.that(result.getNextBeginOffset() > from, queue + ": no progress at " + from + ": " + result);
            if (result.getPullStatus() == PullStatus.FOUND) {
                for (MessageExt message : result.getMsgFoundList()) {
                    Report.that(!tags.equals("*") || message.getQueueOffset() == from,
                        queue + ": expected queue offset " + from + ", got " + message.getQueueOffset());
                    Report.equal(queue.getQueueId(), message.getQueueId(), "queue id in the record");
                    from = message.getQueueOffset() + 1;
                    got.add(message);
                }
            }
            from = Math.max(from, result.getNextBeginOffset());
        }
        return got;
    }

    /** Content by message id; a repeated id is an error. */
    static Map<String, String> contents(List<MessageExt> messages) {
        Map<String, String> contents = new LinkedHashMap<>();
        for (MessageExt message : messages) {
            String before = contents.put(message.getMsgId(), content(message));
            Report.that(before == null, "message " + message.getMsgId() + " was delivered twice");
        }
        return contents;
    }

    /** All of a message that a sender chose. */
    static String content(Message message) {
        return message.getTopic() + "|" + message.getTags() + "|" + message.getKeys() + "|" + message.getFlag()
            + "|" + new String(message.getBody(), StandardCharsets.UTF_8);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public void close() {
        producer.shutdown();
        puller.shutdown();
        bare.shutdown();
    }
}
