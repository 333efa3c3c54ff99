package compat;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.body.ClusterInfo;
import org.apache.rocketmq.common.protocol.header.PullMessageRequestHeader;
import org.apache.rocketmq.common.sysflag.PullSysFlag;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;

/** A master and a slave of one name, each Hotfire's or Java's, and what a Java client sent them. */
final class Pair implements AutoCloseable {
    private static final String TOPIC = "Copied";
    private static final int QUEUES = 4;
    private final Servers servers;
    private final String name;
    private final String masterKind;
    private final String slaveKind;
    private final Session session;
    private final String nameServer;
    private final String brokerName;
    private final Path masterConf;
    private final Path slaveConf;
    private String master;
    private String slave;
    private int starts;
    /** Physical offset by message id, of sends that were answered SEND_OK. */
    final Map<String, Long> acked = new TreeMap<>();
    /** How many sends were answered with each other status. */
    final Map<String, Integer> others = new TreeMap<>();
    private int next;

    Pair(Servers servers, String name, String masterKind, String slaveKind, String role, String flush) throws Exception {
        this.servers = servers;
        this.name = name;
        this.masterKind = masterKind;
        this.slaveKind = slaveKind;
        this.brokerName = "broker-" + name;
        List<Integer> ports = servers.ports(3);
        nameServer = new Servers(masterKind, servers.here, servers.run).nameServer(name + "-ns", ports.get(0));
        session = new Session(nameServer);
        session.producer.setRetryTimesWhenSendFailed(0);
        session.producer.setSendMsgTimeout(6000);
        String[] small = {"mappedFileSizeCommitLog=1048576", "maxMessageSize=524288", "flushDiskType=" + flush,
            "flushConsumerOffsetInterval=1000", "osPageCacheBusyTimeOutMills=10000",
            "masterCatchUpMillis=2000"}; // Hotfire's; a master that was killed looks for its slave no longer than this
        masterConf = servers.conf(name + "-master", brokerName, ports.get(1), nameServer, join(small, "brokerRole=" + role));
        slaveConf = servers.conf(name + "-slave", brokerName, ports.get(2), nameServer,
            join(small, "brokerRole=SLAVE", "brokerId=1"));
    }

    private static String[] join(String[] some, String... more) {
        List<String> all = new ArrayList<>(List.of(some));
        all.addAll(List.of(more));
        return all.toArray(new String[0]);
    }

    @Override
    public void close() throws Exception {
        session.close();
        for (String running : new String[] {master, slave, name + "-ns"}) {
            if (running != null) {
                servers.kill(running);
            }
        }
    }

    void startMaster() throws Exception {
        master = name + "-master-" + ++starts;
        servers.broker(masterKind, masterConf, master);
        await(0L, "the master");
    }

    void startSlave() throws Exception {
        slave = name + "-slave-" + ++starts;
        servers.broker(slaveKind, slaveConf, slave);
        await(1L, "the slave");
    }

    /** Waits until the name server knows the broker with this id. */
    private void await(long id, String what) throws Exception {
        Report.await(what + " at the name server", 40, () -> address(id) != null);
    }

    private String address(long id) throws Exception {
        RemotingCommand answer = session.ask(nameServer, RequestCode.GET_BROKER_CLUSTER_INFO, null, null);
        ClusterInfo info = RemotingSerializable.decode(answer.getBody(), ClusterInfo.class);
        return info.getBrokerAddrTable().containsKey(brokerName)
            ? info.getBrokerAddrTable().get(brokerName).getBrokerAddrs().get(id) : null;
    }

    void killMaster() throws Exception {
        servers.kill(master);
        master = null;
    }

    void stopMaster() throws Exception {
        servers.stop(master);
        master = null;
    }

    void killSlave() throws Exception {
        servers.kill(slave);
        slave = null;
    }

    void topic() throws Exception {
        session.topic(TOPIC, QUEUES, address(0), brokerName);
    }

    /** Sends `count` messages; those that are refused or not answered are counted and left. */
    void send(int count) throws Exception {
        for (int n = 0; n < count; n++) {
            byte[] body = new byte[200 + next * 37 % 3000];
            byte[] head = ("message " + next + " ").getBytes(StandardCharsets.UTF_8);
            System.arraycopy(head, 0, body, 0, head.length);
            Message message = new Message(TOPIC, "A", "k" + next, body);
            MessageQueue queue = new MessageQueue(TOPIC, brokerName, next % QUEUES);
            next++;
            try {
                SendResult result = session.producer.send(message, queue);
                if (result.getSendStatus() == SendStatus.SEND_OK) {
                    acked.put(result.getMsgId(), MessageDecoder.decodeMessageId(result.getOffsetMsgId()).getOffset());
                } else {
                    others.merge(result.getSendStatus().name(), 1, Integer::sum);
                }
            } catch (Exception error) {
                others.merge("failed", 1, Integer::sum);
                Thread.sleep(100);
            }
        }
    }

    /** Sends until one is answered SEND_OK: under SYNC_MASTER the slave follows then. */
    void sendUntilOk() throws Exception {
        int before = acked.size();
        Report.await("SEND_OK", 60, () -> {
            send(1);
            return acked.size() > before;
        });
    }

    private Log log(String which) throws Exception {
        return Log.read(servers.dir(name + "-" + which).resolve("store/commitlog"));
    }

    /** Waits until the slave has as much as the master, and compares them. Returns the figures. */
    String same() throws Exception {
        Report.await("the slave's log is as long as the master's", 60, () -> log("slave").end == log("master").end);
        Log master = log("master");
        Log slave = log("slave");
        int records = Log.same(master, slave, name);
        TreeSet<Long> places = new TreeSet<>();
        slave.rows.forEach(row -> places.add(row.at));
        for (Map.Entry<String, Long> one : acked.entrySet()) {
            Report.that(places.contains(one.getValue()), "acked message " + one.getKey() + " at " + one.getValue() + " is not at the slave");
        }
        return records + " records, " + master.end + " bytes, " + acked.size() + " acked, others " + others;
    }

    /** Everything acked lies in the slave's log, which may be shorter than the master's was. */
    String ackedAreAtSlave() throws Exception {
        TreeSet<Long> places = new TreeSet<>();
        log("slave").rows.forEach(row -> places.add(row.at));
        long missing = acked.values().stream().filter(at -> !places.contains(at)).count();
        Report.equal(0, missing, "acked messages that the slave lacks");
        return acked.size() + " acked are at the slave";
    }

    /** Reads every queue from the slave itself. */
    String readFromSlave() throws Exception {
        String address = address(1);
        TreeSet<String> found = new TreeSet<>();
        int count = 0;
        for (int queue = 0; queue < QUEUES; queue++) {
            long at = 0;
            while (true) {
                RemotingCommand answer = session.ask(address, RequestCode.PULL_MESSAGE, header(queue, at), null);
                if (answer.getCode() != 0) {
                    break;
                }
                List<MessageExt> messages = MessageDecoder.decodes(ByteBuffer.wrap(answer.getBody()));
                for (MessageExt message : messages) {
                    Report.equal(at++, message.getQueueOffset(), "queue offset in queue " + queue);
                    found.add(message.getMsgId());
                    count++;
                }
            }
        }
        long missing = acked.keySet().stream().filter(id -> !found.contains(id)).count();
        Report.equal(0, missing, "acked messages that cannot be read from the slave");
        return count + " read in order, " + acked.size() + " acked are among them";
    }

    private PullMessageRequestHeader header(int queue, long at) {
        PullMessageRequestHeader header = new PullMessageRequestHeader();
        header.setConsumerGroup("slave_reader");
        header.setTopic(TOPIC);
        header.setQueueId(queue);
        header.setQueueOffset(at);
        header.setMaxMsgNums(32);
        header.setSysFlag(PullSysFlag.buildSysFlag(false, false, true, false));
        header.setCommitOffset(0L);
        header.setSuspendTimeoutMillis(0L);
        header.setSubscription("*");
        header.setExpressionType("TAG");
        header.setSubVersion(0L);
        return header;
    }

    /** A consumer that starts when there is no master gets everything that was acked. */
    String consumeWithoutMaster() throws Exception {
        Map<String, AtomicInteger> seen = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = session.pusher("slave_consumer");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> seen.computeIfAbsent(message.getMsgId(), id -> new AtomicInteger()).incrementAndGet());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        try {
            Report.await("every acked message from the slave", 60, () -> seen.keySet().containsAll(acked.keySet()));
        } finally {
            consumer.shutdown();
        }
        return acked.size() + " acked consumed, " + seen.size() + " in all";
    }
}
