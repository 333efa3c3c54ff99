package compat;

import com.alibaba.fastjson.JSON;
import com.alibaba.fastjson.JSONObject;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.header.CreateTopicRequestHeader;
import org.apache.rocketmq.common.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** One store directory that passes between brokers, and everything that is known about it. */
final class Exchange implements AutoCloseable {
    private static final String PUSH_GROUP = "xpush";
    private static final String CONSUMED = "Plain";
    /** Error lines of the Java broker about its store that say nothing about the directory. */
    private static final List<String> HARMLESS = List.of("Store exceed max limit");
    private Servers servers;
    private final String name;
    private final Ledger ledger = new Ledger();
    private final Session session;
    private final Path store;
    private final String brokerName;
    private final Path conf;
    private final String nameServer;
    private final TreeSet<String> consumed = new TreeSet<>();
    private Photo photo;
    private String address;
    private String running;
    private String kind;
    private String timeMissed = "";
    private int starts;

    Exchange(Servers servers, String name, String... more) throws Exception {
        this.servers = servers;
        this.name = name;
        this.brokerName = "broker-" + name;
        List<Integer> ports = servers.ports(2);
        nameServer = servers.nameServer(name + "-ns", ports.get(0));
        session = new Session(nameServer);
        session.producer.addRetryResponseCode(2); // on a busy machine the Java broker refuses sends: flow control
        session.producer.setSendMsgTimeout(10_000);
        session.producer.setCompressMsgBodyOverHowmuch(4096);
        conf = servers.conf(name, brokerName, ports.get(1), nameServer, more);
        store = servers.dir(name).resolve("store");
    }

    @Override
    public void close() throws Exception {
        session.close();
        if (running != null) {
            servers.kill(running);
        }
        servers.kill(name + "-ns");
    }

    /** The next broker's time zone. */
    void zone(String zone) {
        servers = new Servers("hotfire", servers.here, servers.run, Map.of("TZ", zone));
    }

    void start(String kind) throws Exception {
        this.kind = kind;
        running = name + "-" + ++starts + "-" + kind;
        servers.broker(kind, conf, running);
        address = session.brokers(nameServer, 1).get(brokerName);
        Report.await("an answer from " + running, 30, () -> {
            try {
                return session.ask(address, RequestCode.GET_ALL_TOPIC_CONFIG, null, null).getCode() == 0;
            } catch (Exception notYet) {
                return false;
            }
        });
    }

    /** Ends the broker. A kill comes when the committed offsets are in their file, which the promise waits for. */
    void end(boolean kill) throws Exception {
        if (kill) {
            Report.await("committed offsets in consumerOffset.json", 20, this::offsetsAreInTheFile);
            servers.kill(running);
        } else {
            servers.stop(running);
        }
        if (kind.equals("java")) {
            javaSaysNoError();
        }
        Report.equal(kill, Files.exists(store.resolve("abort")), "whether abort is left");
        running = null;
    }

    private boolean offsetsAreInTheFile() throws Exception {
        Path file = store.resolve("config/consumerOffset.json");
        if (!Files.exists(file)) {
            return false;
        }
        JSONObject table = JSON.parseObject(Files.readString(file)).getJSONObject("offsetTable");
        for (Map.Entry<String, Long> offset : ledger.offsets.entrySet()) {
            String[] parts = offset.getKey().split("@");
            Map<?, ?> queues = (Map<?, ?>) table.get(parts[0] + "@" + parts[1]);
            Object found = queues == null ? null : queues.get(Integer.valueOf(parts[2]));
            found = found == null && queues != null ? queues.get(parts[2]) : found;
            if (found == null || ((Number) found).longValue() != offset.getValue()) {
                return false;
            }
        }
        return true;
    }

    private void javaSaysNoError() throws Exception {
        Path log = servers.dir(running).resolve("logs/broker.log");
        for (String line : Files.readAllLines(log)) {
            boolean bad = line.matches("\\S+ ERROR .* RocketmqStore\\S* - .*") && HARMLESS.stream().noneMatch(line::contains);
            Report.that(!bad, "the Java broker says about its store: " + line);
        }
    }

    void topic(String topic, int readQueues, int writeQueues) throws Exception {
        CreateTopicRequestHeader header = new CreateTopicRequestHeader();
        header.setTopic(topic);
        header.setDefaultTopic("TBW102");
        header.setReadQueueNums(readQueues);
        header.setWriteQueueNums(writeQueues);
        header.setPerm(6);
        header.setTopicFilterType("SINGLE_TAG");
        header.setTopicSysFlag(0);
        header.setOrder(false);
        Report.equal(0, session.ask(address, RequestCode.UPDATE_AND_CREATE_TOPIC, header, null).getCode(), "create " + topic);
        Report.await("route of " + topic, 15, () -> session.route(nameServer, topic) != null);
    }

    /** One round of writing and reading. What Hotfire does not do yet is left out, and said. */
    String write(String round) throws Exception {
        int before = ledger.placed.size() + ledger.delivered.size();
        topic("Plain", 4, 4);
        topic("Wide", 8, 4);
        topic("Narrow", 2, 2);
        topic("Only-" + round, 1, 1);
        topic("Later", 2, 2);
        Writer writer = new Writer(session, ledger, brokerName, address, round);
        writer.plain("Plain", 4, 160);
        writer.plain("Wide", 4, 40);
        writer.plain("Only-" + round, 1, 30);
        writer.big("Narrow", 32);
        writer.batch("Wide", 1, 20);
        writer.offsets("Wide", 4);
        consume();
        writer.delayed("Later", 12);
        subscribe();
        writer.retried("Plain");
        topic("Settled", 2, 2);
        writer.transactions("Settled");
        photograph();
        return ledger.placed.size() + ledger.delivered.size() - before + " messages written";
    }

    /** Transactions alone: four committed, three rolled back, two left open. */
    String open(String round) throws Exception {
        topic("Settled", 2, 2);
        new Writer(session, ledger, brokerName, address, round).transactions("Settled");
        return "4 committed, 3 rolled back, 2 left open";
    }

    /** Whoever is asked commits now: what was left open comes, once, and nothing else does. */
    String settle(String round) throws Exception {
        return new Writer(session, ledger, brokerName, address, round).settle("Settled");
    }

    /** Messages that wait for a time of their own (ADR-0024), half of them until then and half much shorter; and some others. */
    String await(String round, int count, long due) throws Exception {
        rewrite("Plain", round, 40);
        topic("Timed", 2, 2);
        Writer writer = new Writer(session, ledger, brokerName, address, round);
        writer.offsets("Plain", 2);
        writer.timed("Timed", count, due);
        photograph();
        return count + " messages with a time of their own";
    }

    /** All of them have come, once, none early, and as they were sent. */
    String come(int wait) throws Exception {
        return new Writer(session, ledger, brokerName, address, "").come("Timed", wait);
    }

    boolean hasQueue(String topic, int queue) {
        return Files.exists(store.resolve("consumequeue").resolve(topic).resolve(String.valueOf(queue)));
    }

    /** The group must exist before a message is given back. */
    private void subscribe() throws Exception {
        var config = new org.apache.rocketmq.common.subscription.SubscriptionGroupConfig();
        config.setGroupName(Writer.RETRY_GROUP);
        byte[] body = JSON.toJSONBytes(config);
        Report.equal(0, session.ask(address, RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, null, body).getCode(), "create a group");
    }

    private void photograph() throws Exception {
        Photo next = Photo.take(session, address, brokerName, photo);
        next.holds(ledger);
        photo = next;
    }

    /** A consumer group goes on where it was: it gets what is new in `Plain`, once, and nothing else. */
    private void consume() throws Exception {
        TreeSet<String> fresh = new TreeSet<>();
        ledger.of(CONSUMED).forEach(sent -> fresh.add(sent.id));
        fresh.removeAll(consumed);
        Set<String> got = ConcurrentHashMap.newKeySet();
        List<String> twice = Collections.synchronizedList(new ArrayList<>());
        DefaultMQPushConsumer consumer = session.pusher(PUSH_GROUP);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(CONSUMED, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> {
                if (!got.add(message.getMsgId())) {
                    twice.add(message.getMsgId());
                }
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        Report.await(fresh.size() + " messages for group " + PUSH_GROUP, 40, () -> got.size() >= fresh.size());
        Thread.sleep(500); // the client counts a message as consumed a moment after its listener returned
        consumer.shutdown();
        Report.equal(fresh, new TreeSet<>(got), "what group " + PUSH_GROUP + " got");
        Report.equal(0, twice.size(), "messages that group " + PUSH_GROUP + " got twice");
        consumed.addAll(fresh);
        for (int queue = 0; queue < 4; queue++) {
            long max = Photo.max(session, address, CONSUMED, queue);
            int at = queue;
            // The client commits oneway.
            Report.await("progress " + max + " of " + PUSH_GROUP + " in queue " + queue, 5,
                () -> String.valueOf(max).equals(String.valueOf(offset(CONSUMED, PUSH_GROUP, at))));
            ledger.offsets.put(CONSUMED + "@" + PUSH_GROUP + "@" + queue, max);
        }
    }

    private Object offset(String topic, String group, int queue) throws Exception {
        QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(queue);
        RemotingCommand answer = session.ask(address, RequestCode.QUERY_CONSUMER_OFFSET, header, null);
        return answer.getCode() == 0 ? answer.getExtFields().get("offset") : "code " + answer.getCode();
    }

    /** The directory as the broker now serves it is what the one before it served. Returns the counts. */
    String verify() throws Exception {
        Photo now = Photo.take(session, address, brokerName, photo);
        now.holds(ledger);
        int added = now.follows(photo, ledger);
        photo = now;
        for (Map.Entry<String, Long> offset : ledger.offsets.entrySet()) {
            String[] parts = offset.getKey().split("@");
            Report.equal(offset.getValue(), offset(parts[0], parts[1], Integer.parseInt(parts[2])), "committed offset " + offset.getKey());
        }
        int views = views();
        int[] times = times();
        // Java picks the queue file by its time of change: Hotfire dates the files that it fills.
        Report.that(times[0] == times[1], "expected the nearest message at each time, got " + times[0] + " of " + times[1] + timeMissed);
        return now.messages + " messages" + (added > 0 ? " (" + added + " added by Java itself)" : "") + " in " + now.queues.size() + " queues, "
            + ledger.offsets.size() + " committed offsets, " + views + " views by offset id, " + times[1] + " time searches";
    }

    /** Messages by key and by unique key. `whole`: all of them must be found. */
    String verifyKeys(boolean whole) throws Exception {
        int[] keys = keys();
        String figures = keys[0] + " of " + keys[1] + " keys, " + keys[2] + " of " + keys[3] + " unique keys";
        Report.that(!whole || keys[0] == keys[1] && keys[2] == keys[3], "expected every key, got " + figures);
        return figures;
    }

    private int views() throws Exception {
        int views = 0;
        for (Ledger.Sent sent : ledger.placed.values()) {
            if (sent.offset % 9 == 0) {
                MessageExt message = session.producer.viewMessage(sent.offsetId);
                Report.equal(sent.id + " " + sent.content, Photo.unique(message) + " " + Ledger.content(message), "view of " + sent.offsetId);
                views++;
            }
        }
        return views;
    }

    /** Found and asked keys, found and asked unique keys. */
    private int[] keys() throws Exception {
        int[] counts = new int[4];
        int at = 0;
        for (Map.Entry<String, TreeSet<String>> key : ledger.byKey.entrySet()) {
            if (++at % 3 != 0 && !key.getKey().contains("shared")) {
                continue;
            }
            String[] parts = key.getKey().split("#");
            TreeSet<String> got = new TreeSet<>();
            try {
                session.producer.queryMessage(parts[0], parts[1], 32, 0, Long.MAX_VALUE).getMessageList().forEach(message -> got.add(Photo.unique(message)));
            } catch (MQClientException notFound) {
                // Counted below.
            }
            counts[1]++;
            counts[0] += got.equals(key.getValue()) ? 1 : 0;
        }
        at = 0;
        for (Ledger.Sent sent : ledger.placed.values()) {
            if (++at % 3 == 0) {
                counts[3]++;
                try {
                    MessageExt message = session.producer.getDefaultMQProducerImpl().queryMessageByUniqKey(sent.topic, sent.id);
                    counts[2] += sent.id.equals(message == null ? null : Photo.unique(message)) ? 1 : 0;
                } catch (MQClientException notFound) {
                    // Counted above.
                }
            }
        }
        return counts;
    }

    /** How often the offset found by a time is a message stored nearest to it, and how often that was asked. */
    private int[] times() throws Exception {
        int[] times = new int[2];
        for (Map.Entry<String, List<MessageExt>> queue : photo.queues.entrySet()) {
            List<MessageExt> records = queue.getValue();
            String topic = records.get(0).getTopic();
            if (topic.startsWith("SCHEDULE_") || topic.startsWith("RMQ_SYS_") || Photo.isRetry(topic) || topic.equals("Later")) {
                continue;
            }
            MessageQueue place = new MessageQueue(topic, brokerName, records.get(0).getQueueId());
            long first = records.get(0).getStoreTimestamp();
            long last = records.get(records.size() - 1).getStoreTimestamp();
            TreeSet<Long> asked = new TreeSet<>(List.of(first - 5000, first, last, last + 5000, (first + last) / 2));
            for (int at = 0; at < records.size(); at += Math.max(1, records.size() / 5)) {
                asked.add(records.get(at).getStoreTimestamp());
            }
            for (long time : asked) {
                long nearest = records.stream().mapToLong(MessageExt::getStoreTimestamp).map(stored -> Math.abs(stored - time)).min().getAsLong();
                long found = session.puller.searchOffset(place, time);
                Report.that(found >= photo.mins.get(queue.getKey()) && found < photo.mins.get(queue.getKey()) + records.size(),
                    "offset by time " + time + " in " + queue.getKey() + ": got " + found + " of " + records.size());
                long stored = records.get((int) (found - photo.mins.get(queue.getKey()))).getStoreTimestamp();
                times[1]++;
                if (Math.abs(stored - time) == nearest) {
                    times[0]++;
                } else {
                    timeMissed = ", e.g. offset " + found + " for time " + time + " in " + queue.getKey();
                }
            }
        }
        return times;
    }

    /** Deletes a part of the directory while nobody runs. */
    void remove(String part) throws Exception {
        Path path = store.resolve(part);
        List<Path> all = new ArrayList<>();
        try (var walk = Files.walk(path)) {
            walk.sorted(Comparator.reverseOrder()).forEach(all::add);
        }
        for (Path one : all) {
            Files.delete(one);
        }
    }

    /** Deletes a topic at the broker and the name server. */
    void deleteTopic(String topic) throws Exception {
        var header = new org.apache.rocketmq.common.protocol.header.DeleteTopicRequestHeader();
        header.setTopic(topic);
        Report.equal(0, session.ask(address, RequestCode.DELETE_TOPIC_IN_BROKER, header, null).getCode(), "delete " + topic);
        Report.equal(0, session.ask(nameServer, RequestCode.DELETE_TOPIC_IN_NAMESRV, header, null).getCode(), "delete " + topic + " at the name server");
        ledger.forget(topic);
        if (photo != null) {
            photo.queues.keySet().removeIf(name -> name.startsWith(topic + "@"));
            photo.mins.keySet().removeIf(name -> name.startsWith(topic + "@"));
            photo.configs.remove(topic);
        }
    }

    /** Another round into one topic alone. */
    void rewrite(String topic, String round, int count) throws Exception {
        topic(topic, 2, 2);
        new Writer(session, ledger, brokerName, address, round).plain(topic, 2, count);
        photograph();
    }

    /** Index files in the order of their names have to be in the order in which they were made. */
    String indexInOrder() throws Exception {
        List<Path> files = new ArrayList<>();
        try (var list = Files.list(store.resolve("index"))) {
            list.sorted().forEach(files::add);
        }
        long last = 0;
        for (Path file : files) {
            long begin = java.nio.ByteBuffer.wrap(Files.readAllBytes(file)).getLong(0);
            Report.that(begin >= last, "index file " + file.getFileName() + " begins at " + begin + ", the one before it at " + last);
            last = begin;
        }
        return files.size() + " index files in order";
    }

    Map<String, Long> files() throws Exception {
        Map<String, Long> counts = new TreeMap<>();
        for (String part : new String[] {"commitlog", "commitlog-b", "consumequeue", "index"}) {
            if (Files.exists(store.resolve(part))) {
                try (var walk = Files.walk(store.resolve(part))) {
                    counts.put(part, walk.filter(Files::isRegularFile).count());
                }
            }
        }
        return counts;
    }
}
