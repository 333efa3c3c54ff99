package compat;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.heartbeat.MessageModel;
import org.apache.rocketmq.remoting.exception.RemotingException;

/** Two name servers and two masters, and what clients see while one of them is stopped or killed. */
final class ClusterSuite {
    private static final int SEND_TIMEOUT_MS = 3000;

    static void run(Servers servers, Report report) throws Exception {
        ClusterSuite suite = new ClusterSuite(servers);
        suite.start();
        report.check("two-name-servers", suite::twoNameServers);
        report.check("two-masters", suite::twoMasters);
        report.check("filter-off", () -> FilterChecks.off(suite.session, suite.brokers.get("broker-b")));
        report.check("offsets-over-restart", suite::restart);
        report.check("one-master-stopped", () -> suite.oneMasterDown(false));
        report.check("one-master-killed", () -> suite.oneMasterDown(true));
        report.check("one-name-server-dead", suite::oneNameServerDead);
        for (String name : new String[] {"cluster-a", "cluster-b", "cluster-ns2"}) {
            servers.stop(name);
        }
    }

    private final Servers servers;
    private String first;
    private String second;
    private Path confA;
    private Path confB;
    private Session session;
    private Map<String, String> brokers;

    private ClusterSuite(Servers servers) {
        this.servers = servers;
    }

    private void start() throws Exception {
        List<Integer> ports = servers.ports(4);
        first = servers.nameServer("cluster-ns1", ports.get(0));
        second = servers.nameServer("cluster-ns2", ports.get(1));
        String both = first + ";" + second;
        confA = servers.conf("cluster-a", "broker-a", ports.get(2), both);
        confB = servers.conf("cluster-b", "broker-b", ports.get(3), both, "enablePropertyFilter=false");
        servers.broker(confA, "cluster-a");
        servers.broker(confB, "cluster-b");
        session = new Session(both);
        brokers = session.brokers(first, 2);
        session.brokers(second, 2);
    }

    private String topic(String topic, int queues) throws Exception {
        session.topic(topic, queues, brokers.get("broker-a"), "broker-a");
        session.topic(topic, queues, brokers.get("broker-b"), "broker-b");
        return topic;
    }

    private String twoNameServers() throws Exception {
        topic("TwoNameServers", 2);
        for (String address : new String[] {first, second}) {
            Map<String, String> routed = new TreeMap<>();
            session.route(address, "TwoNameServers").getBrokerDatas()
                .forEach(data -> routed.put(data.getBrokerName(), data.getBrokerAddrs().get(0L)));
            Report.equal(new TreeMap<>(brokers), routed, "brokers in the route from " + address);
        }
        return "the same route from both";
    }

    private String twoMasters() throws Exception {
        String topic = topic("TwoMasters", 4);
        Map<String, Integer> byBroker = new TreeMap<>();
        Map<String, String> sent = new LinkedHashMap<>();
        for (int at = 0; at < 160; at++) {
            Message message = new Message(topic, "T", "k" + at, Session.bytes("two " + at));
            SendResult result = session.producer.send(message);
            byBroker.merge(result.getMessageQueue().getBrokerName(), 1, Integer::sum);
            sent.put(result.getMsgId(), Session.content(message));
        }
        Report.equal("{broker-a=80, broker-b=80}", byBroker, "sends by broker");
        Report.equal(8, session.queues(topic).size(), "queues");
        Report.same(sent, Session.contents(session.pullAll(topic, "*", sent.size())), topic);
        return "160 sent and pulled, 80 from each";
    }

    /** A consumer stops, the broker restarts, the consumer comes back: nothing twice, nothing lost. */
    private String restart() throws Exception {
        String topic = "Restart";
        session.topic(topic, 4, brokers.get("broker-a"), "broker-a");
        String group = "compat_restart";
        Map<String, String> sent = new LinkedHashMap<>(session.send(topic, "T", 100));
        int early;
        try (PushChecks.Member member = new PushChecks.Member(session, group, topic, "*", MessageModel.CLUSTERING)) {
            Report.await("100 messages before the restart", 40, () -> member.got.size() >= 100);
            early = member.got.size();
        }
        Map<MessageQueue, Long> ends = new LinkedHashMap<>();
        for (MessageQueue queue : session.queues(topic)) {
            ends.put(queue, session.puller.maxOffset(queue));
        }
        // The client's last commit has no answer.
        Report.await("100 messages committed before the stop", 5, () -> committed(group, topic) == 100);
        servers.stop("cluster-a");
        Path abort = servers.dir("cluster-a").resolve("store/abort");
        Report.that(!java.nio.file.Files.exists(abort), "expected no abort file after a clean stop");
        String booted = servers.broker(confA, "cluster-a").trim();
        session.brokers(first, 2);
        Report.await("an answer from the restarted broker", 20, () -> {
            try {
                return session.puller.maxOffset(ends.keySet().iterator().next()) >= 0;
            } catch (Exception notYet) {
                return false;
            }
        });
        for (Map.Entry<MessageQueue, Long> end : ends.entrySet()) {
            Report.equal(end.getValue(), session.puller.maxOffset(end.getKey()), "max offset of " + end.getKey() + " after the restart");
        }
        Report.equal(100L, committed(group, topic), "sum of committed offsets after the restart");
        Map<String, String> later = session.send(topic, "T", 60);
        int late;
        try (PushChecks.Member member = new PushChecks.Member(session, group, topic, "*", MessageModel.CLUSTERING)) {
            Report.await("60 messages after the restart", 40, () -> member.got.size() >= 60);
            Thread.sleep(500);
            late = member.got.size();
            Report.same(later, Session.contents(List.copyOf(member.got)), "after the restart");
        }
        sent.putAll(later);
        Report.same(sent, Session.contents(session.pullAll(topic, "*", sent.size())), topic);
        Report.equal("100 60", early + " " + late, "deliveries before and after");
        return "100 before, 60 after, none twice; " + booted.replaceAll(".*ms=", "restart in ") + " ms";
    }

    /** How far the broker says that a group is, over all queues of a topic. */
    private long committed(String group, String topic) throws Exception {
        long sum = 0;
        for (MessageQueue queue : session.queues(topic)) {
            sum += Math.max(0, PushChecks.offset(session, brokers.get(queue.getBrokerName()), group, queue));
        }
        return sum;
    }

    /** Sends go on, each within the client's time limit, while one of two masters goes away and comes back. */
    private String oneMasterDown(boolean kill) throws Exception {
        String topic = topic(kill ? "MasterKilled" : "MasterStopped", 4);
        DefaultMQProducer producer = session.producer("compat_masters_" + kill);
        producer.setSendMsgTimeout(SEND_TIMEOUT_MS);
        Map<String, String> sent = new ConcurrentHashMap<>();
        Map<String, Integer> byBroker = new ConcurrentHashMap<>();
        AtomicBoolean stop = new AtomicBoolean();
        AtomicReference<String> wrong = new AtomicReference<>();
        AtomicInteger lost = new AtomicInteger();
        long[] worst = new long[1];
        Thread sender = new Thread(() -> {
            for (int at = 0; !stop.get() && wrong.get() == null; at++) {
                Message message = new Message(topic, "T", "k" + at, Session.bytes("master " + at));
                long begun = System.nanoTime();
                try {
                    SendResult result = producer.send(message);
                    Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
                    sent.put(result.getMsgId(), Session.content(message));
                    byBroker.merge(result.getMessageQueue().getBrokerName(), 1, Integer::sum);
                    worst[0] = Math.max(worst[0], (System.nanoTime() - begun) / 1_000_000);
                    Thread.sleep(5);
                } catch (RemotingException | MQClientException error) {
                    // The one request that the killed broker had received gets no answer; the client waits its whole time.
                    if (kill && lost.incrementAndGet() == 1) {
                        continue;
                    }
                    wrong.set("send " + at + " failed after " + (System.nanoTime() - begun) / 1_000_000 + " ms: " + error);
                } catch (Throwable error) {
                    wrong.set("send " + at + " failed after " + (System.nanoTime() - begun) / 1_000_000 + " ms: " + error);
                }
            }
        });
        sender.start();
        Report.await("sends to both", 10, () -> byBroker.getOrDefault("broker-b", 0) > 20 || wrong.get() != null);
        if (kill) {
            servers.kill("cluster-b");
        } else {
            servers.stop("cluster-b");
        }
        int before = sent.size();
        Report.await("100 sends without broker-b", 30, () -> sent.size() >= before + 100 || wrong.get() != null);
        int atReturn = byBroker.get("broker-b");
        servers.broker(confB, "cluster-b");
        // A client may have dropped the dead master's queues; its route poll of 30 s brings them back.
        Report.await("sends to broker-b again", 45, () -> byBroker.get("broker-b") > atReturn || wrong.get() != null);
        stop.set(true);
        sender.join();
        producer.shutdown();
        Report.that(wrong.get() == null, "expected every send to succeed, got " + wrong.get());
        Report.that(worst[0] <= SEND_TIMEOUT_MS, "expected every send within 3000 ms, got " + worst[0]);
        Map<String, String> got = new LinkedHashMap<>();
        int copies = 0;
        for (var message : session.pullAll(topic, "*", sent.size())) {
            copies += got.put(message.getMsgId(), Session.content(message)) == null ? 0 : 1;
        }
        Map<String, String> unsure = new LinkedHashMap<>(got);
        unsure.keySet().removeAll(sent.keySet());
        Report.that(unsure.size() <= lost.get(), "expected at most " + lost + " messages without an answer, found " + unsure.size());
        got.keySet().removeAll(unsure.keySet());
        Report.same(sent, got, topic);
        return sent.size() + " sent and found, " + byBroker + ", " + copies + " stored twice by a resend" + (kill ? ", " + lost + " in flight at the kill" : "") + ", slowest send " + worst[0] + " ms";
    }

    private String oneNameServerDead() throws Exception {
        String topic = topic("NameServerDead", 2);
        servers.kill("cluster-ns1");
        Map<String, String> sent = new LinkedHashMap<>(Version.pastDeadNameServer(2, () -> session.send(topic, "T", 40)));
        // New clients that get both addresses, and a topic that only the living one can have learnt of.
        try (Session fresh = new Session(first + ";" + second);
             PushChecks.Member member = Version.pastDeadNameServer(12,
                 () -> new PushChecks.Member(fresh, "compat_ns_dead", topic, "*", MessageModel.CLUSTERING))) {
            sent.putAll(Version.pastDeadNameServer(2, () -> fresh.send(topic, "T", 40)));
            Report.await("80 messages", 45, () -> member.got.size() >= 80);
            Report.same(sent, Session.contents(List.copyOf(member.got)), topic);
            fresh.send("BornAfterDeath", "T", 10);
            Report.await("route of a new topic at the living name server", 20, () -> session.route(second, "BornAfterDeath") != null);
            Report.equal(10, Version.pastDeadNameServer(2, () -> fresh.pullAll("BornAfterDeath", "*", 10)).size(), "messages of a new topic");
        }
        return "80 sent and consumed, a topic created, with one of two name servers dead";
    }
}
