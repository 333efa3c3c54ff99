package compat;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** A name server and a broker of one kind, filled with the data that the commands ask for. */
final class Target {
    static final String BROKER_NAME = "broker-a";
    static final String TOPIC = "MqadminTopic";
    static final String GROUP = "mqadmin_group";
    static final String OFFLINE = "mqadmin_offline";
    static final String PRODUCER = "mqadmin_producer";
    private static final int MESSAGES = 10;

    final String kind;
    final Path home;
    /** What `$NAME` in a case stands for. A value is written back as its name before outputs are compared. */
    final Map<String, String> names = new LinkedHashMap<>();
    private final Servers servers;

    Target(String kind, Path compat, Path run) {
        this.kind = kind;
        this.home = run.resolve(kind);
        this.servers = new Servers(kind, compat, home);
    }

    void start() throws Exception {
        List<Integer> ports = servers.ports(2);
        String nameServer = servers.nameServer("ns", ports.get(0));
        servers.broker(servers.conf("broker", BROKER_NAME, ports.get(1), nameServer), "broker");
        names.put("NS", nameServer);
        names.put("BROKER", "127.0.0.1:" + ports.get(1));
        names.put("OUT", home.resolve("export").toString());
        names.put("HOME", home.toString());
    }

    /** Ten messages with tags and keys, a group that has read them and lives, a group without members, a live producer. */
    void fill() throws Exception {
        Session session = new Session(names.get("NS"));
        session.brokers(names.get("NS"), 1);
        session.topic(TOPIC, 2, names.get("BROKER"), BROKER_NAME);
        session.topic("MqadminOther", 1, names.get("BROKER"), BROKER_NAME);
        session.topic("%RETRY%" + OFFLINE, 1, names.get("BROKER"), BROKER_NAME);
        DefaultMQProducer producer = session.producer(PRODUCER);
        List<MessageQueue> queues = session.queues(TOPIC);
        for (int at = 0; at < MESSAGES; at++) {
            Message message = new Message(TOPIC, at % 4 < 2 ? "TagA" : "TagB", "key" + at, Session.bytes("body " + at));
            SendResult sent = producer.send(message, queues.get(at % 2));
            if (at == 0) {
                names.put("OFFSETID", sent.getOffsetMsgId());
                names.put("UNIQUE", sent.getMsgId());
            }
        }
        trace(session);
        producer.getDefaultMQProducerImpl().getmQClientFactory().sendHeartbeatToAllBrokerWithLock();
        DefaultMQPushConsumer consumer = session.pusher(GROUP);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPersistConsumerOffsetInterval(500);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        consumer.start();
        names.put("CLIENT", consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId());
        Report.await("route of the retry topic", 30, () -> session.route(names.get("NS"), "%RETRY%" + GROUP) != null);
        // The client would find the retry topic at its next look, up to 30 s later.
        MQClientInstance client = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory();
        Report.await("the queue of the retry topic", 30, () -> {
            client.updateTopicRouteInfoFromNameServer("%RETRY%" + GROUP);
            client.doRebalance();
            return consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().size() == 3;
        });
        DefaultMQAdminExt admin = new DefaultMQAdminExt(6000);
        admin.setNamesrvAddr(names.get("NS"));
        admin.setInstanceName(Session.instance());
        admin.start();
        SubscriptionGroupConfig group = new SubscriptionGroupConfig();
        group.setGroupName(OFFLINE);
        admin.createAndUpdateSubscriptionGroupConfig(names.get("BROKER"), group);
        for (MessageQueue queue : queues) {
            admin.updateConsumeOffset(names.get("BROKER"), OFFLINE, queue, 2);
        }
        Report.await(MESSAGES + " messages committed", 60, () -> admin.examineConsumeStats(GROUP, TOPIC).getOffsetTable()
            .values().stream().mapToLong(offset -> offset.getConsumerOffset()).sum() == MESSAGES);
        Report.await("offsets of 3 queues", 60, () -> admin.examineConsumeStats(GROUP).getOffsetTable().size() == 3);
        admin.shutdown();
    }

    /** One message whose way is recorded, so that the topic of such records is there. */
    private void trace(Session session) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("mqadmin_traced", true);
        producer.setNamesrvAddr(names.get("NS"));
        producer.setInstanceName(Session.instance());
        producer.start();
        names.put("TRACED", producer.send(new Message("MqadminOther", "TagA", "traced", Session.bytes("traced"))).getMsgId());
        Report.await("a record of its way", 30, () -> {
            Thread.sleep(100);
            return session.route(names.get("NS"), "RMQ_SYS_TRACE_TOPIC") != null
                && session.puller.fetchSubscribeMessageQueues("RMQ_SYS_TRACE_TOPIC").stream().anyMatch(queue -> hasMessages(session, queue));
        });
        producer.shutdown();
    }

    private boolean hasMessages(Session session, MessageQueue queue) {
        try {
            return session.puller.maxOffset(queue) > 0;
        } catch (Exception error) {
            return false;
        }
    }

    String put(String text) {
        for (Map.Entry<String, String> name : names.entrySet()) {
            text = text.replace("$" + name.getKey(), name.getValue());
        }
        return text;
    }

    String takeBack(String text) {
        for (Map.Entry<String, String> name : names.entrySet()) {
            text = text.replace(name.getValue(), "$" + name.getKey());
        }
        return text;
    }
}
