package compat;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.commons.cli.CommandLine;
import org.apache.commons.cli.Options;
import org.apache.commons.cli.PosixParser;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.admin.ConsumeStats;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.body.BrokerStatsItem;
import org.apache.rocketmq.common.protocol.body.ConsumerRunningInfo;
import org.apache.rocketmq.common.protocol.body.KVTable;
import org.apache.rocketmq.common.protocol.body.QueryCorrectionOffsetBody;
import org.apache.rocketmq.common.protocol.body.QueueTimeSpan;
import org.apache.rocketmq.common.protocol.header.CloneGroupOffsetRequestHeader;
import org.apache.rocketmq.common.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.common.protocol.header.QueryCorrectionOffsetHeader;
import org.apache.rocketmq.common.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.srvutil.ServerUtil;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.tools.command.SubCommand;
import org.apache.rocketmq.tools.command.broker.BrokerStatusSubCommand;
import org.apache.rocketmq.tools.command.broker.GetBrokerConfigCommand;
import org.apache.rocketmq.tools.command.broker.UpdateBrokerConfigSubCommand;
import org.apache.rocketmq.tools.command.consumer.ConsumerStatusSubCommand;
import org.apache.rocketmq.tools.command.message.QueryMsgByIdSubCommand;
import org.apache.rocketmq.tools.command.offset.GetConsumerStatusCommand;
import org.apache.rocketmq.tools.command.offset.ResetOffsetByTimeCommand;
import org.apache.rocketmq.tools.command.queue.QueryConsumeQueueCommand;
import org.apache.rocketmq.tools.command.stats.StatsAllSubCommand;

/** What mqadmin asks of a broker, by its own commands. */
final class AdminChecks {
    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        AdminChecks checks = new AdminChecks(cluster);
        report.check("admin-client-calls", checks::clientCalls);
        report.check("admin-reset-online", checks::resetOnline);
        report.check("admin-reset-offline", checks::resetOffline);
        report.check("admin-offsets", checks::offsets);
        report.check("admin-queue", checks::queue);
        report.check("admin-stats", checks::stats);
        report.check("admin-config", checks::config);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    AdminChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    /** A consumer that keeps what it was given. */
    static final class Keeper implements AutoCloseable {
        final ConcurrentLinkedQueue<MessageExt> got = new ConcurrentLinkedQueue<>();
        final DefaultMQPushConsumer consumer;

        Keeper(Session session, String group, String topic) throws Exception {
            consumer = session.pusher(group);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setPersistConsumerOffsetInterval(500);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                got.addAll(messages);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            // Tools ask for the route of the retry topic. Hotfire tells the name servers when the topic is on its disk.
            Report.await("route of the retry topic", 10, () -> session.route(session.nameServers, "%RETRY%" + group) != null);
        }

        String id() {
            return consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();
        }

        List<String> bodies() {
            return got.stream().map(message -> new String(message.getBody())).sorted().collect(Collectors.toList());
        }

        @Override
        public void close() {
            consumer.shutdown();
        }
    }

    DefaultMQAdminExt admin() throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt(6000);
        admin.setNamesrvAddr(cluster.nameServer);
        admin.setInstanceName(Session.instance());
        admin.start();
        return admin;
    }

    /** Runs a command of mqadmin in this process and answers what it printed. */
    String mqadmin(SubCommand command, String... args) throws Exception {
        System.setProperty(MixAll.NAMESRV_ADDR_PROPERTY, cluster.nameServer);
        Options options = command.buildCommandlineOptions(ServerUtil.buildCommandlineOptions(new Options()));
        CommandLine line = ServerUtil.parseCmdLine("mqadmin " + command.commandName(), args, options, new PosixParser());
        Report.that(line != null, command.commandName() + ": the arguments are not understood");
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream before = System.out;
        System.setOut(new PrintStream(bytes, true));
        try {
            command.execute(line, options, null);
        } finally {
            System.setOut(before);
        }
        return bytes.toString().trim();
    }

    /** The rows that a command printed below its head line, in words. */
    static List<String> rows(String printed) {
        List<String> rows = new ArrayList<>();
        boolean isBelow = false;
        for (String line : printed.split("\n")) {
            if (isBelow && !line.isBlank()) {
                rows.add(line.trim().replaceAll("\\s+", " "));
            }
            isBelow |= line.startsWith("#");
        }
        rows.sort(null);
        return rows;
    }

    void send(String topic, int from, int to) throws Exception {
        List<MessageQueue> queues = session.queues(topic);
        for (int at = from; at < to; at++) {
            Message message = new Message(topic, "T", "k" + at, Session.bytes(String.format("m%03d", at)));
            session.producer.send(message, queues.get(at % queues.size()));
        }
    }

    /** What the broker has of a group, by queue. */
    Map<Integer, Long> committed(DefaultMQAdminExt admin, String group, String topic) throws Exception {
        Map<Integer, Long> offsets = new TreeMap<>();
        Version.consumeStats(cluster, admin, group, topic).getOffsetTable()
            .forEach((queue, offset) -> offsets.put(queue.getQueueId(), offset.getConsumerOffset()));
        return offsets;
    }

    private String clientCalls() throws Exception {
        String topic = cluster.topic("AdminCalls", 2);
        String group = "compat_admin_calls";
        send(topic, 0, 20);
        DefaultMQAdminExt admin = admin();
        try (Keeper keeper = new Keeper(session, group, topic)) {
            Report.await("20 messages", 30, () -> keeper.got.size() == 20);
            Report.await("10 and 10 committed", 15, () -> "{0=10, 1=10}".equals(committed(admin, group, topic).toString()));
            ConsumerRunningInfo info = admin.getConsumerRunningInfo(group, keeper.id(), true);
            Map<Integer, Long> offsets = new TreeMap<>();
            info.getMqTable().forEach((queue, state) -> {
                if (queue.getTopic().equals(topic)) {
                    offsets.put(queue.getQueueId(), state.getCommitOffset());
                }
            });
            Report.equal("{0=10, 1=10}", offsets, "offsets in the running info");
            Report.equal(2, info.getSubscriptionSet().size(), "subscriptions in the running info");
            Report.that(info.getJstack().contains("TID:"), "expected stacks, got " + info.getJstack());
            String printed = mqadmin(new ConsumerStatusSubCommand(), "-g", group, "-i", keeper.id());
            Report.that(printed.contains("#Consumer Properties#") && printed.contains("AdminCalls"), "consumerStatus: " + printed);

            List<String> want = List.of(
                keeper.id() + " " + cluster.brokerName + " 0 10", keeper.id() + " " + cluster.brokerName + " 1 10");
            for (String client : new String[] {"", keeper.id()}) {
                List<String> rows = rows(mqadmin(new GetConsumerStatusCommand(), "-g", group, "-t", topic, "-i", client));
                Report.equal(want, rows, "getConsumerStatus of '" + client + "'");
            }

            MessageExt first = keeper.got.peek();
            printed = mqadmin(new QueryMsgByIdSubCommand(), Version.queryById(topic, "-i", ((MessageClientExt) first).getOffsetMsgId(),
                "-g", group, "-d", keeper.id()));
            Report.that(printed.contains("CR_SUCCESS"), "consumeMessageDirectly: " + printed);
            Report.equal(21, keeper.got.size(), "messages after one was given directly");
            long again = keeper.got.stream().filter(message -> new String(message.getBody()).equals(new String(first.getBody()))).count();
            Report.equal(2L, again, "times that message was given");

            int code = 0;
            try {
                admin.getConsumerRunningInfo(group, "nobody", false);
            } catch (MQClientException error) {
                code = error.getResponseCode();
            }
            Report.equal(1, code, "code for the running info of nobody");
            return "running info, status of 2 queues, 1 message given directly";
        } finally {
            admin.shutdown();
        }
    }

    private String resetOnline() throws Exception {
        String topic = cluster.topic("AdminReset", 2);
        String group = "compat_admin_reset";
        send(topic, 0, 12);
        Thread.sleep(1500);
        long between = System.currentTimeMillis() - 100;
        send(topic, 12, 20);
        DefaultMQAdminExt admin = admin();
        try (Keeper keeper = new Keeper(session, group, topic)) {
            Report.await("20 messages", 30, () -> keeper.got.size() == 20);
            Report.await("10 and 10 committed", 15, () -> "{0=10, 1=10}".equals(committed(admin, group, topic).toString()));
            // All is consumed: nothing moves.
            List<String> rows = rows(mqadmin(new ResetOffsetByTimeCommand(), "-g", group, "-t", topic, "-s", Version.END, "-f", "false"));
            Report.equal(List.of(cluster.brokerName + " 0 10", cluster.brokerName + " 1 10"), rows, "a reset to now");
            Thread.sleep(Version.RESET_TAKES_MS);
            rows = rows(mqadmin(new ResetOffsetByTimeCommand(), "-g", group, "-t", topic, "-s", String.valueOf(between)));
            Report.equal(List.of(cluster.brokerName + " 0 6", cluster.brokerName + " 1 6"), rows, "a reset by time");
            Report.await("8 messages again", 60, () -> keeper.got.size() >= 28);
            Report.await("10 and 10 committed again", 20, () -> "{0=10, 1=10}".equals(committed(admin, group, topic).toString()));
            Report.equal(28, keeper.got.size(), "messages in all");
            List<String> again = keeper.bodies();
            for (int at = 0; at < 20; at++) {
                again.remove(String.format("m%03d", at));
            }
            Report.equal("[m012, m013, m014, m015, m016, m017, m018, m019]", again, "messages given twice");
            return "8 of 20 messages came again";
        } finally {
            admin.shutdown();
        }
    }

    private String resetOffline() throws Exception {
        String topic = cluster.topic("AdminResetOff", 2);
        String group = "compat_admin_reset_off";
        send(topic, 0, 10);
        try (Keeper keeper = new Keeper(session, group, topic)) {
            Report.await("10 messages", 30, () -> keeper.got.size() == 10);
        }
        DefaultMQAdminExt admin = admin();
        try {
            Report.await("5 and 5 committed", 15, () -> "{0=5, 1=5}".equals(committed(admin, group, topic).toString()));
            int code = 0;
            try {
                admin.resetOffsetByTimestamp(topic, group, 0, true);
            } catch (MQClientException error) {
                code = error.getResponseCode();
            }
            Report.equal(206, code, "code of a reset without a consumer");
            Report.equal("{0=5, 1=5}", committed(admin, group, topic), "offsets after it");
            // mqadmin then sets the offsets itself.
            mqadmin(new ResetOffsetByTimeCommand(), "-g", group, "-t", topic, "-s", "0", "-f", "true");
            Report.equal("{0=0, 1=0}", committed(admin, group, topic), "offsets after mqadmin");
            try (Keeper keeper = new Keeper(session, group, topic)) {
                Report.await("10 messages again", 30, () -> keeper.got.size() >= 10);
                Thread.sleep(300);
                Report.equal(10, keeper.got.size(), "messages again");
            }
            return "10 messages came again";
        } finally {
            admin.shutdown();
        }
    }

    private void commit(DefaultMQAdminExt admin, String group, String topic, long first, long second) throws Exception {
        admin.updateConsumeOffset(cluster.broker, group, new MessageQueue(topic, cluster.brokerName, 0), first);
        admin.updateConsumeOffset(cluster.broker, group, new MessageQueue(topic, cluster.brokerName, 1), second);
    }

    private String offsets() throws Exception {
        String topic = cluster.topic("AdminOffsets", 2);
        send(topic, 0, 20);
        DefaultMQAdminExt admin = admin();
        try {
            commit(admin, "compat_off_a", topic, 9, 4);
            commit(admin, "compat_off_b", topic, 5, 6);
            RemotingCommand answer = session.ask(cluster.broker, RequestCode.QUERY_CORRECTION_OFFSET,
                correction(topic, "compat_off_a", ""), null);
            Report.equal(0, answer.getCode(), "code of QUERY_CORRECTION_OFFSET");
            QueryCorrectionOffsetBody body = QueryCorrectionOffsetBody.decode(answer.getBody(), QueryCorrectionOffsetBody.class);
            Report.equal("{0=5, 1=4}", new TreeMap<>(body.getCorrectionOffsets()), "least offsets of all groups");

            CloneGroupOffsetRequestHeader header = new CloneGroupOffsetRequestHeader();
            header.setSrcGroup("compat_off_a");
            header.setDestGroup("compat_off_c");
            header.setTopic(topic);
            answer = session.ask(cluster.broker, RequestCode.CLONE_GROUP_OFFSET, header, null);
            Report.equal(0, answer.getCode(), "code of CLONE_GROUP_OFFSET");
            Report.equal(9L, stored("compat_off_c", topic, 0), "cloned offset of queue 0");
            Report.equal(4L, stored("compat_off_c", topic, 1), "cloned offset of queue 1");

            List<QueueTimeSpan> spans = admin.queryConsumeTimeSpan(topic, "compat_off_a");
            Report.equal(2, spans.size(), "queues with times");
            for (QueueTimeSpan span : spans) {
                Report.that(span.getMinTimeStamp() > 0 && span.getMinTimeStamp() <= span.getConsumeTimeStamp()
                    && span.getConsumeTimeStamp() <= span.getMaxTimeStamp() && span.getDelayTime() >= 0, "times of " + span.getMessageQueue());
            }
            long behind = 0;
            int groups = 0;
            for (Map<String, List<ConsumeStats>> one : admin.fetchConsumeStatsInBroker(cluster.broker, false, 5000).getConsumeStatsList()) {
                for (Map.Entry<String, List<ConsumeStats>> entry : one.entrySet()) {
                    groups += entry.getKey().startsWith("compat_off_") ? 1 : 0;
                    for (ConsumeStats stats : entry.getValue()) {
                        behind += stats.getOffsetTable().keySet().stream().anyMatch(queue -> queue.getTopic().equals(topic))
                            && entry.getKey().equals("compat_off_a") ? stats.computeTotalDiff() : 0;
                    }
                }
            }
            // Only groups that the broker knows are told: an offset alone makes none.
            Report.equal(0, groups, "groups without a configuration");
            Report.equal(0L, behind, "messages behind of a group without a configuration");
            SubscriptionGroupConfig config = new SubscriptionGroupConfig();
            config.setGroupName("compat_off_a");
            admin.createAndUpdateSubscriptionGroupConfig(cluster.broker, config);
            for (Map<String, List<ConsumeStats>> one : admin.fetchConsumeStatsInBroker(cluster.broker, false, 5000).getConsumeStatsList()) {
                for (ConsumeStats stats : one.getOrDefault("compat_off_a", List.of())) {
                    behind += stats.computeTotalDiff();
                }
            }
            Report.equal(7L, behind, "messages behind");
            String printed = mqadmin(Version.brokerConsumeStats(), "-b", cluster.broker);
            long rows = printed.lines().filter(line -> line.contains(topic) && line.contains("compat_off_a")).count();
            Report.equal(2L, rows, "rows of brokerConsumeStats");
            return "2 groups corrected, 2 offsets cloned, 7 messages behind";
        } finally {
            admin.shutdown();
        }
    }

    private static QueryCorrectionOffsetHeader correction(String topic, String group, String leftOut) {
        QueryCorrectionOffsetHeader header = new QueryCorrectionOffsetHeader();
        header.setTopic(topic);
        header.setCompareGroup(group);
        header.setFilterGroups(leftOut);
        return header;
    }

    private long stored(String group, String topic, int queue) throws Exception {
        QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(topic);
        header.setQueueId(queue);
        RemotingCommand answer = session.ask(cluster.broker, RequestCode.QUERY_CONSUMER_OFFSET, header, null);
        Report.equal(0, answer.getCode(), "code for the offset of " + group);
        return Long.parseLong(answer.getExtFields().get("offset"));
    }

    private String queue() throws Exception {
        String topic = cluster.topic("AdminQueue", 2);
        String group = "compat_admin_queue";
        send(topic, 0, 12);
        try (Keeper keeper = new Keeper(session, group, topic)) {
            Report.await("12 messages", 30, () -> keeper.got.size() == 12);
            String printed = mqadmin(new QueryConsumeQueueCommand(), "-t", topic, "-q", "1", "-i", "2", "-c", "3", "-b", cluster.broker);
            Report.that(printed.contains("max: 6, min: 0"), "queryCq: " + printed);
            Report.equal(List.of("idx: 2", "idx: 3", "idx: 4"),
                printed.lines().filter(line -> line.startsWith("idx: ")).collect(Collectors.toList()), "entries of queryCq");
            Report.equal(3L, printed.lines().filter(line -> line.contains("tagsCode=" + "T".hashCode())).count(), "entries with the tag's code");
            printed = mqadmin(new QueryConsumeQueueCommand(), "-t", topic, "-q", "1", "-i", "0", "-c", "9", "-b", cluster.broker, "-g", group);
            Report.equal(6L, printed.lines().filter(line -> line.startsWith("idx: ")).count(), "entries in all");
            Report.that(printed.contains("Subscription data:") && printed.contains("\"topic\":\"" + topic + "\""), "subscription: " + printed);
        }
        return "3 and 6 entries";
    }

    private String stats() throws Exception {
        String topic = cluster.topic("AdminStats", 2);
        String group = "compat_admin_stats";
        DefaultMQAdminExt admin = admin();
        try (Keeper keeper = new Keeper(session, group, topic)) {
            KVTable before = admin.fetchBrokerRuntimeStats(cluster.broker);
            send(topic, 0, 30);
            Message late = new Message(topic, "T", "late", Session.bytes("late"));
            late.setDelayTimeLevel(1);
            session.producer.send(late);
            Report.await("31 messages", 30, () -> keeper.got.size() == 31);
            KVTable after = admin.fetchBrokerRuntimeStats(cluster.broker);
            // The delayed message is put twice.
            Report.equal(32L, number(after, "msgPutTotalTodayNow") - number(before, "msgPutTotalTodayNow"), "messages put");
            long got = number(after, "msgGetTotalTodayNow") - number(before, "msgGetTotalTodayNow");
            Report.equal(31L, got, "messages got");
            Report.await("31 puts and gets in the minute", 15, () ->
                sum(admin, "TOPIC_PUT_NUMS", topic) == 31 && sum(admin, "GROUP_GET_NUMS", topic + "@" + group) == 31);
            BrokerStatsItem size = admin.viewBrokerStatsData(cluster.broker, "TOPIC_PUT_SIZE", topic).getStatsMinute();
            Report.that(size.getSum() > 31 * 90 && size.getAvgpt() > 90, "bytes put: " + size.getSum() + ", average " + size.getAvgpt());
            Report.that(sum(admin, "GROUP_GET_SIZE", topic + "@" + group) == size.getSum(), "the bytes got are the bytes put");
            Report.that(sum(admin, "BROKER_PUT_NUMS", "DefaultCluster") >= 32, "messages put into the broker");
            Report.that(sum(admin, "SCHEDULE", topic) == -1, "a number that nobody counts");
            Report.that(Version.consumeStats(cluster, admin, group, topic).getConsumeTps() > 0.0, "rate of the group");
            // The Java broker has no rate in its first ten seconds.
            Report.that(cluster.isJava || Double.parseDouble(after.getTable().get("putTps").split(" ")[0]) > 0.0,
                "putTps: " + after.getTable().get("putTps"));
            Report.await("all is committed", 15, () -> Version.consumeStats(cluster, admin, group, topic).computeTotalDiff() == 0);
            String printed = mqadmin(new StatsAllSubCommand(), "-t", topic);
            List<String> rows = rows(printed);
            Report.that(rows.size() == 1 && rows.get(0).startsWith(topic + " " + group + " 0 ") && rows.get(0).endsWith(" 31 31"),
                "statsAll: " + rows);
            Report.that(mqadmin(new BrokerStatusSubCommand(), "-b", cluster.broker).contains("msgPutTotalTodayNow"), "brokerStatus");
            return "31 messages put and got, " + size.getSum() + " bytes";
        } finally {
            admin.shutdown();
        }
    }

    private static long number(KVTable table, String name) {
        return Long.parseLong(table.getTable().get(name));
    }

    /** The sum of the last minute; -1 when nothing was counted. */
    private long sum(DefaultMQAdminExt admin, String name, String key) throws Exception {
        try {
            return admin.viewBrokerStatsData(cluster.broker, name, key).getStatsMinute().getSum();
        } catch (MQClientException error) {
            return -1;
        }
    }

    private String config() throws Exception {
        DefaultMQAdminExt admin = admin();
        try {
            String printed = mqadmin(new GetBrokerConfigCommand(), "-b", cluster.broker);
            Report.that(printed.contains("brokerName") && printed.contains("fileReservedTime"), "getBrokerConfig: " + printed);
            String before = admin.getBrokerConfig(cluster.broker).getProperty("fileReservedTime");
            printed = mqadmin(new UpdateBrokerConfigSubCommand(), "-b", cluster.broker, "-k", "fileReservedTime", "-v", "71");
            Report.that(printed.contains("update broker config success"), "updateBrokerConfig: " + printed);
            Report.equal("71", admin.getBrokerConfig(cluster.broker).getProperty("fileReservedTime"), "the new value");
            String conf = Files.readString(cluster.conf);
            Report.that(conf.lines().anyMatch(line -> line.equals("fileReservedTime=71")), "the file has the new value");
            Properties back = new Properties();
            back.setProperty("fileReservedTime", before);
            admin.updateBrokerConfig(cluster.broker, back);
            if (cluster.isJava) {
                return "changed and changed back; a bad value is taken without a word";
            }
            for (String[] bad : new String[][] {{"fileReservedTime", "many"}, {"fileReservdTime", "71"}, {"brokerName", "other"}}) {
                Properties properties = new Properties();
                properties.setProperty(bad[0], bad[1]);
                String error = "";
                try {
                    admin.updateBrokerConfig(cluster.broker, properties);
                } catch (MQBrokerException refused) {
                    error = refused.getErrorMessage();
                }
                Report.that(error.contains(bad[0]), "a refusal that names " + bad[0] + ": " + error);
            }
            return "changed and changed back, 3 bad changes refused by name";
        } finally {
            admin.shutdown();
        }
    }
}
