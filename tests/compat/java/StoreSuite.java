package compat;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.common.protocol.header.UpdateConsumerOffsetRequestHeader;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** The chapter's broker.conf, and one store directory that passes between Hotfire and the real Java broker. */
final class StoreSuite {
    /** Keys that no 4.9.3 broker knows. */
    private static final String[] UNKNOWN_KEYS = {"storePathConsumeQueue", "storePathIndex", "storeCheckpoint", "abortFile"};
    private static final String NAME_SERVER_LINE = "The Name Server boot success. serializeType=JSON";

    static void run(Servers servers, Report report) throws Exception {
        StoreSuite suite = new StoreSuite(servers);
        // Each check goes on with the directory that the one before it left; after a failure the rest says so.
        boolean held = report.check("chapter-boot", suite::chapterBoot)
            && report.check("chapter-shutdown", suite::chapterShutdown)
            && report.check("opened-by-java", () -> suite.takeOver("java", "java1"))
            && report.check("opened-after-java", suite::backAgain)
            && report.check("opened-by-java-after-kill", () -> suite.afterKill("java", "java2"))
            && report.check("opened-after-java-kill", () -> suite.afterKill(servers.kind, "own3"));
        if (!held) {
            System.out.println("note the store checks after the first failure did not run: they need its directory");
        }
        suite.close();
    }

    private final Servers servers;
    private final Map<String, Map<String, String>> sent = new TreeMap<>();
    private final Map<String, Long> offsets = new TreeMap<>();
    private Path conf;
    private Path root;
    private String nameServer;
    private int port = 10911;
    private int nameServerPort = 9876;
    private String running;
    private String ownBootLine;
    private Session session;
    private String broker;

    private StoreSuite(Servers servers) {
        this.servers = servers;
    }

    private void close() throws Exception {
        if (session != null) {
            session.close();
        }
        if (running != null) {
            servers.kill(running);
        }
        if (nameServer != null) {
            servers.kill("store-ns");
        }
    }

    /** The chapter's file as it stands, its Windows paths replaced and, when the default ports are taken, its ports. */
    private void writeConf() throws Exception {
        List<Integer> free = servers.ports(2);
        boolean taken = open(9876) || open(10909) || open(10911) || open(10912);
        if (taken) {
            nameServerPort = free.get(0);
            port = free.get(1);
        }
        root = servers.dir("store-data");
        Files.createDirectories(root);
        String text = Files.readString(servers.here.resolve("chapter-broker.conf"), StandardCharsets.UTF_8)
            .replace("E:/RocketMQ/data/rocketmq/dataDir", root.toString())
            .replace("127.0.0.1:9876", "127.0.0.1:" + nameServerPort);
        if (taken) {
            text += "\nlistenPort=" + port + "\n";
        }
        conf = servers.run.resolve("chapter-broker.conf");
        Files.writeString(conf, text, StandardCharsets.UTF_8);
    }

    private static boolean open(int port) {
        try (java.net.Socket socket = new java.net.Socket("127.0.0.1", port)) {
            return true;
        } catch (java.io.IOException closed) {
            return false;
        }
    }

    private void start(String kind, String name) throws Exception {
        servers.broker(kind, conf, name);
        running = name;
        broker = session.brokers(nameServer, 1).get("broker-a");
        Report.await("an answer from " + name, 30, () -> {
            try {
                return session.queues("TBW102") != null && session.ask(broker, RequestCode.GET_ALL_TOPIC_CONFIG, null, null) != null;
            } catch (Exception notYet) {
                return false;
            }
        });
    }

    private static String bootLine(String output) {
        return output.lines().filter(line -> line.contains("boot success")).findFirst().orElse("no boot line in: " + output);
    }

    private String chapterBoot() throws Exception {
        writeConf();
        nameServer = servers.nameServer("store-ns", nameServerPort);
        Report.equal(NAME_SERVER_LINE, bootLine(servers.output("store-ns")), "boot line of the name server");
        session = new Session(nameServer);
        session.producer.addRetryResponseCode(2); // on a busy machine the Java broker refuses sends: flow control
        start(servers.kind, "own1");
        String output = servers.output("own1");
        ownBootLine = bootLine(output);
        String expected = "The broker[broker-a, " + broker + "] boot success. serializeType=JSON and name server is " + nameServer;
        Report.equal(expected, ownBootLine, "boot line of the broker");
        int warned = 0;
        if (servers.kind.equals("hotfire")) {
            for (String key : UNKNOWN_KEYS) {
                long lines = output.lines().filter(line -> line.contains("WARN") && line.contains(key)).count();
                Report.equal(1, lines, "WARN lines that name " + key);
                warned++;
            }
        }
        return "both lines, " + warned + " unknown keys warned of, port " + port + " and name server " + nameServerPort;
    }

    /** Sends to some topics, commits some offsets; remembers all of it. */
    private void write(String round) throws Exception {
        for (String topic : new String[] {"Chapter", "Chapter_" + round}) {
            Map<String, String> all = sent.computeIfAbsent(topic, unused -> new LinkedHashMap<>());
            for (int at = 0; at < 100; at++) {
                Message message = new Message(topic, at % 2 == 0 ? "even" : "odd", round + at, Session.bytes(round + " message " + at));
                message.setFlag(at);
                message.putUserProperty("round", round);
                all.put(session.producer.send(message).getMsgId(), Session.content(message));
            }
        }
        for (int queue = 0; queue < 4; queue++) {
            UpdateConsumerOffsetRequestHeader header = new UpdateConsumerOffsetRequestHeader();
            header.setConsumerGroup("compat_group_" + round);
            header.setTopic("Chapter");
            header.setQueueId(queue);
            header.setCommitOffset(5L + queue);
            Report.equal(0, session.ask(broker, RequestCode.UPDATE_CONSUMER_OFFSET, header, null).getCode(), "code of an offset update");
            offsets.put("compat_group_" + round + "@" + queue, 5L + queue);
        }
    }

    /** Every message that was ever acknowledged in this directory, once, with its content; tags; queue ends; offsets. */
    private String verify() throws Exception {
        int total = 0;
        for (Map.Entry<String, Map<String, String>> topic : sent.entrySet()) {
            List<MessageExt> got = session.pullAll(topic.getKey(), "*", topic.getValue().size());
            Report.same(topic.getValue(), Session.contents(got), topic.getKey());
            total += got.size();
            Map<String, String> even = new LinkedHashMap<>(topic.getValue());
            even.values().removeIf(content -> !content.contains("|even|"));
            Report.same(even, Session.contents(session.pullAll(topic.getKey(), "even", topic.getValue().size())), topic.getKey() + " tag even");
            for (MessageQueue queue : session.queues(topic.getKey())) {
                List<MessageExt> mine = new ArrayList<>(got);
                mine.removeIf(message -> message.getQueueId() != queue.getQueueId());
                Report.equal("0 " + mine.size(), session.puller.minOffset(queue) + " " + session.puller.maxOffset(queue), "min and max of " + queue);
                MessageExt middle = mine.get(mine.size() / 2);
                long found = session.puller.searchOffset(queue, middle.getStoreTimestamp());
                Report.equal(middle.getStoreTimestamp(), mine.get((int) found).getStoreTimestamp(), "store time at the offset found by time in " + queue);
            }
        }
        for (Map.Entry<String, Long> offset : offsets.entrySet()) {
            QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
            header.setConsumerGroup(offset.getKey().split("@")[0]);
            header.setTopic("Chapter");
            header.setQueueId(Integer.parseInt(offset.getKey().split("@")[1]));
            RemotingCommand answer = session.ask(broker, RequestCode.QUERY_CONSUMER_OFFSET, header, null);
            Report.equal(offset.getValue(), answer.getExtFields().get("offset"), "consumer offset of " + offset.getKey());
        }
        return total + " messages in " + sent.size() + " topics and " + offsets.size() + " consumer offsets";
    }

    private String chapterShutdown() throws Exception {
        write("own1");
        String figures = verify();
        Path abort = root.resolve("abort");
        Report.that(Files.exists(abort), "expected the abort file while the broker runs");
        String how = "SIGTERM";
        if (servers.kind.equals("hotfire")) {
            how = shutdownByName();
        } else {
            servers.stop(running);
        }
        Report.that(!Files.exists(abort), "expected the abort file gone after a clean stop");
        running = null;
        TreeSet<String> names = new TreeSet<>();
        try (var entries = Files.list(root)) {
            entries.forEach(entry -> names.add(entry.getFileName().toString()));
        }
        // `index` appears when the first index entry is written, `hotfire` is ours.
        names.removeAll(List.of("index", "hotfire"));
        Report.equal("[checkpoint, commitlog, config, consumequeue, lock]", names, "names in the store directory");
        return figures + ", stopped by " + how + ", abort gone";
    }

    /** `mqshutdown broker`, in the name the tool is called by; it stops every broker of the machine, so not beside others. */
    private String shutdownByName() throws Exception {
        Path name = servers.run.resolve("mqshutdown");
        if (!Files.exists(name)) {
            Files.createSymbolicLink(name, Path.of(System.getenv("HOTFIRE")).toAbsolutePath());
        }
        long brokers = ProcessHandle.allProcesses().map(process -> process.info().commandLine().orElse(""))
            .filter(line -> line.matches("\\S*(hotfire broker|mqbroker)( .*)?")).count();
        String pid = Files.readString(servers.dir(running).resolve("pid")).trim();
        String[] line = brokers == 1 ? new String[] {name.toString(), "broker"} : new String[] {name.toString(), "broker", pid};
        String said = Servers.command(line);
        Report.equal("The mqbroker(" + pid + ") is running... Send shutdown request to mqbroker(" + pid + ") OK",
            said.trim().replaceAll("\\s+", " "), "what mqshutdown says");
        Path exit = servers.dir(running).resolve("exit");
        Report.await("the broker's end after mqshutdown", 10, () -> Files.exists(exit));
        Report.equal("0", Files.readString(exit).trim(), "exit code after mqshutdown broker");
        return brokers == 1 ? "mqshutdown broker" : "mqshutdown broker PID beside " + (brokers - 1) + " other brokers";
    }

    /** A broker of that kind opens the directory, serves everything, and adds to it. */
    private String takeOver(String kind, String name) throws Exception {
        start(kind, name);
        Report.equal(ownBootLine, bootLine(servers.output(name)), "boot line of " + kind + " on the same file");
        String figures = verify();
        write(name);
        verify();
        servers.stop(name);
        running = null;
        return figures + ", then 200 more written by " + kind;
    }

    private String backAgain() throws Exception {
        start(servers.kind, "own2");
        String figures = verify();
        write("own2");
        // Java persists consumer offsets every 5 s; what a kill may take back is not what is asked here.
        Report.await("consumer offsets on disk", 12, () ->
            Files.readString(root.resolve("config/consumerOffset.json")).contains("compat_group_own2"));
        servers.kill("own2");
        running = null;
        Report.that(Files.exists(root.resolve("abort")), "expected the abort file after kill -9");
        return figures + ", then 200 more and kill -9";
    }

    private String afterKill(String kind, String name) throws Exception {
        start(kind, name);
        String figures = verify();
        write(name);
        verify();
        Report.await("consumer offsets on disk", 12, () -> holds("config/consumerOffset.json", "compat_group_" + name));
        servers.kill(name);
        running = null;
        return figures + ", then 200 more and kill -9";
    }

    /** Java deletes a file before it puts the new one in its place: for a moment there is none. */
    private boolean holds(String file, String text) throws Exception {
        try {
            return Files.readString(root.resolve(file)).contains(text);
        } catch (java.nio.file.NoSuchFileException absent) {
            return false;
        }
    }
}
