package compat;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.commons.cli.CommandLine;
import org.apache.commons.cli.Options;
import org.apache.commons.cli.PosixParser;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.body.ConsumerRunningInfo;
import org.apache.rocketmq.srvutil.ServerUtil;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.tools.command.SubCommand;
import org.apache.rocketmq.tools.command.consumer.ConsumerStatusSubCommand;
import org.apache.rocketmq.tools.command.message.QueryMsgByIdSubCommand;
import org.apache.rocketmq.tools.command.offset.GetConsumerStatusCommand;
import org.apache.rocketmq.tools.command.offset.ResetOffsetByTimeCommand;

/** What mqadmin asks of a broker, by its own commands. */
final class AdminChecks {
    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        AdminChecks checks = new AdminChecks(cluster);
        report.check("admin-client-calls", checks::clientCalls);
        report.check("admin-reset-online", checks::resetOnline);
        report.check("admin-reset-offline", checks::resetOffline);
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
        admin.examineConsumeStats(group, topic).getOffsetTable()
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
            printed = mqadmin(new QueryMsgByIdSubCommand(), "-i", ((MessageClientExt) first).getOffsetMsgId(), "-g", group, "-d", keeper.id());
            Report.that(printed.contains("CR_SUCCESS"), "consumeMessageDirectly: " + printed);
            Report.equal(21, keeper.got.size(), "messages after one was given directly");
            long again = keeper.got.stream().filter(message -> new String(message.getBody()).equals(new String(first.getBody()))).count();
            Report.equal(2L, again, "times that message was given");

            for (Object[] wrong : new Object[][] {{group, "nobody", 1}, {"nobody", keeper.id(), 1}}) {
                int code = 0;
                try {
                    admin.getConsumerRunningInfo((String) wrong[0], (String) wrong[1], false);
                } catch (MQClientException error) {
                    code = error.getResponseCode();
                }
                Report.equal(wrong[2], code, "code for the running info of " + wrong[0] + " " + wrong[1]);
            }
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
            List<String> rows = rows(mqadmin(new ResetOffsetByTimeCommand(), "-g", group, "-t", topic, "-s", "now", "-f", "false"));
            Report.equal(List.of(cluster.brokerName + " 0 10", cluster.brokerName + " 1 10"), rows, "a reset to now");
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
}
