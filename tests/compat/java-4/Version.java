package compat;

import java.util.concurrent.Callable;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.admin.ConsumeStats;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.tools.command.SubCommand;
import org.apache.rocketmq.tools.command.broker.BrokerConsumeStatsSubCommad;

/** What differs in 5.x: here as 4.9 has it. */
final class Version {
    static final boolean BATCH_IS_ONE_ID = false;
    /** Compression bits of sysFlag of a message that the client has decoded. 4.9.8 names the kind too: its bits for zlib. */
    static final int COMPRESSED = knowsKinds() ? 0x301 : 1;
    static final int LITE_PULL_CODE = RequestCode.PULL_MESSAGE;

    static final long RESET_TAKES_MS = 0;
    /** How resetOffsetByTime is told the end of the queues. */
    static final String END = "now";

    private static boolean knowsKinds() {
        try {
            Class.forName("org.apache.rocketmq.common.compression.CompressionType");
            return true;
        } catch (ClassNotFoundException none) {
            return false;
        }
    }

    /** Does what first needs a name server while one of two is dead. */
    static <T> T pastDeadNameServer(int tries, Callable<T> what) throws Exception {
        return what.call();
    }

    /** A transaction may be sent with a delay level; it is without effect. */
    static void delayTransaction(Message message, int level) {
        message.setDelayTimeLevel(level);
    }

    /** 4.9 has no method for a time of its own; its users may set the property. */
    static void delayMillis(Message message, long millis) {
        message.putUserProperty("TIMER_DELAY_MS", String.valueOf(millis));
    }

    static void delaySeconds(Message message, long seconds) {
        message.putUserProperty("TIMER_DELAY_SEC", String.valueOf(seconds));
    }

    static void deliverAt(Message message, long time) {
        message.putUserProperty("TIMER_DELIVER_MS", String.valueOf(time));
    }

    /** Arguments of queryMsgById. */
    static String[] queryById(String topic, String... args) {
        return args;
    }

    /** Views a message by its offset id. */
    static MessageExt viewMessage(DefaultMQProducer producer, String topic, String offsetMessageId) throws Exception {
        return producer.viewMessage(offsetMessageId);
    }

    static ConsumeStats consumeStats(WireSuite.Cluster cluster, DefaultMQAdminExt admin, String group, String topic) throws Exception {
        return admin.examineConsumeStats(group, topic);
    }

    static SubCommand brokerConsumeStats() {
        return new BrokerConsumeStatsSubCommad();
    }
}
