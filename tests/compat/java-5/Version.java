package compat;

import java.util.Arrays;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.exception.RemotingConnectException;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.admin.ConsumeStats;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.tools.command.SubCommand;
import org.apache.rocketmq.tools.command.broker.BrokerConsumeStatsSubCommand;

/** What differs in 4.9: here as 5.x has it. */
final class Version {
    /** The client gives the batch an id too; the broker adds the batch's properties to each message, and the last id counts. */
    static final boolean BATCH_IS_ONE_ID = true;
    /** The client takes bit 0 away when it has decompressed; its bits for zlib stay. */
    static final int COMPRESSED = 0x300;
    static final int LITE_PULL_CODE = RequestCode.LITE_PULL_MESSAGE;

    /**
     * A client that is told to reset gives its queues up, 10 s later, and asks for them again, which may take 3 s more. A
     * reset that comes meanwhile finds no queue and is lost.
     */
    static final long RESET_TAKES_MS = 15_000;
    /**
     * How resetOffsetByTime is told the end of the queues. For `now` it sends the time, and 4.9.3 finds the last message
     * before that, which is one less.
     */
    static final String END = "-1";

    /**
     * Does what first needs a name server while one of two is dead. The client begins with one of them, by chance, and
     * throws when it is the dead one; it takes the other one the next time. Nothing is sent by a call that fails so. A client
     * that is new at each try throws again by the same chance: `tries` is 2 for one that is not.
     */
    static <T> T pastDeadNameServer(int tries, Callable<T> what) throws Exception {
        for (int at = 1; ; at++) {
            try {
                return what.call();
            } catch (IllegalStateException | MQClientException failed) {
                if (at == tries || !(failed.getCause() instanceof RemotingConnectException)) {
                    throw failed;
                }
            }
        }
    }

    /** The client refuses a transaction with a delay level, also with level 0. */
    static void delayTransaction(Message message, int level) {
    }

    static void delayMillis(Message message, long millis) {
        message.setDelayTimeMs(millis);
    }

    static void delaySeconds(Message message, long seconds) {
        message.setDelayTimeSec(seconds);
    }

    static void deliverAt(Message message, long time) {
        message.setDeliverTimeMs(time);
    }

    /** Arguments of queryMsgById, which must name the topic. */
    static String[] queryById(String topic, String... args) {
        String[] all = Arrays.copyOf(args, args.length + 2);
        all[args.length] = "-t";
        all[args.length + 1] = topic;
        return all;
    }

    /** Views a message by its offset id. */
    static MessageExt viewMessage(DefaultMQProducer producer, String topic, String offsetMessageId) throws Exception {
        return producer.viewMessage(topic, offsetMessageId);
    }

    /** Asks for the topic's configuration (351) first, which no 4.9.3 broker knows. */
    static ConsumeStats consumeStats(WireSuite.Cluster cluster, DefaultMQAdminExt admin, String group, String topic) throws Exception {
        return cluster.isJava ? admin.examineConsumeStats(cluster.broker, group, topic, 5000) : admin.examineConsumeStats(group, topic);
    }

    static SubCommand brokerConsumeStats() {
        return new BrokerConsumeStatsSubCommand();
    }
}
