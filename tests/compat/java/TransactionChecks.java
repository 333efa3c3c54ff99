package compat;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Transactions of the Java producer, on a broker that asks every second for those older than a second. */
final class TransactionChecks {
    static final String TIMEOUT = "transactionTimeOut=1000";
    static final String INTERVAL = "transactionCheckInterval=1000";

    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        TransactionChecks checks = new TransactionChecks(cluster);
        report.check("transaction-commit-rollback", checks::commitAndRollback);
        report.check("transaction-check-back", checks::checkBack);
        report.check("transaction-other-member", checks::otherMember);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private TransactionChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    private static String send(TransactionMQProducer producer, Message message, LocalTransactionState how) throws Exception {
        TransactionSendResult result = producer.sendMessageInTransaction(message, how);
        Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
        Report.equal(how, result.getLocalTransactionState(), "state");
        return result.getMsgId();
    }

    /** Waits for so many messages, and then for one too many. */
    private List<MessageExt> exactly(String topic, int count) throws Exception {
        List<MessageExt> got = new ArrayList<>();
        Report.await(count + " messages in " + topic, 30, () -> {
            got.clear();
            got.addAll(session.pullAll(topic, "*", 0));
            return got.size() >= count;
        });
        Thread.sleep(3500);
        List<MessageExt> later = session.pullAll(topic, "*", 0);
        Report.equal(count, later.size(), "messages in " + topic);
        return later;
    }

    private String commitAndRollback() throws Exception {
        String topic = cluster.topic("TransactionEnds", 4);
        TransactionMQProducer producer = session.transactional("compat_tx", message -> LocalTransactionState.UNKNOW);
        try {
            Map<String, String> committed = new LinkedHashMap<>();
            for (int at = 0; at < 30; at++) {
                Message message = new Message(topic, "Paid", "k" + at, Session.bytes("order " + at));
                message.setFlag(at);
                Version.delayTransaction(message, at % 10 == 1 ? 3 : 0);
                boolean isCommit = at % 3 != 0;
                String id = send(producer, message, isCommit ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE);
                if (isCommit) {
                    committed.put(id, Session.content(message));
                }
            }
            List<MessageExt> got = exactly(topic, committed.size());
            Report.same(committed, Session.contents(got), topic);
            for (MessageExt message : got) {
                Report.equal(8, message.getSysFlag() & 12, "transaction type");
                Report.that(message.getPreparedTransactionOffset() < message.getCommitLogOffset(), "the half message lies before it");
                Report.equal("true", message.getProperty("TRAN_MSG"), "TRAN_MSG");
                Report.equal("compat_tx", message.getProperty("PGROUP"), "PGROUP");
                Report.equal(topic, message.getProperty("REAL_TOPIC"), "REAL_TOPIC");
                Report.equal(message.getQueueId(), Integer.parseInt(message.getProperty("REAL_QID")), "REAL_QID");
                Report.equal(message.getProperty("UNIQ_KEY"), message.getTransactionId(), "transaction id");
            }
            Report.equal(committed.size(), session.pullAll(topic, "Paid", 0).size(), "messages by tag");
            return committed.size() + " committed and found, " + (30 - committed.size()) + " rolled back and not";
        } finally {
            producer.shutdown();
        }
    }

    private String checkBack() throws Exception {
        String topic = cluster.topic("TransactionAsked", 2);
        Map<String, Integer> asked = new ConcurrentHashMap<>();
        TransactionMQProducer producer = session.transactional("compat_tx_asked", message -> {
            int times = asked.merge(message.getKeys(), 1, Integer::sum);
            Report.equal(topic, message.getTopic(), "topic of a question");
            int at = Integer.parseInt(message.getKeys().substring(1));
            if (at % 4 == 0 && times == 1) {
                return LocalTransactionState.UNKNOW;
            }
            return at % 2 == 0 ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.ROLLBACK_MESSAGE;
        });
        try {
            Map<String, String> committed = new HashMap<>();
            for (int at = 0; at < 12; at++) {
                Message message = new Message(topic, "T", "k" + at, Session.bytes("asked " + at));
                String id = send(producer, message, LocalTransactionState.UNKNOW);
                if (at % 2 == 0) {
                    committed.put(id, Session.content(message));
                }
            }
            List<MessageExt> got = exactly(topic, committed.size());
            Report.same(committed, Session.contents(got), topic);
            for (MessageExt message : got) {
                int at = Integer.parseInt(message.getKeys().substring(1));
                int checks = Integer.parseInt(message.getProperty("TRANSACTION_CHECK_TIMES"));
                Report.equal(at % 4 == 0 ? 2 : 1, checks, "checks of message " + at);
            }
            Report.equal(12, asked.size(), "messages that were asked for");
            int questions = asked.values().stream().mapToInt(Integer::intValue).sum();
            Report.equal(15, questions, "questions");
            return "6 committed and 6 rolled back by " + questions + " questions";
        } finally {
            producer.shutdown();
        }
    }

    private String otherMember() throws Exception {
        String topic = cluster.topic("TransactionOrphan", 1);
        String group = "compat_tx_members";
        Message message = new Message(topic, "T", "k", Session.bytes("orphan"));
        TransactionMQProducer sender = session.transactional(group, unused -> LocalTransactionState.UNKNOW);
        String id = send(sender, message, LocalTransactionState.UNKNOW);
        sender.shutdown();
        AtomicInteger questions = new AtomicInteger();
        TransactionMQProducer other = session.transactional(group, unused -> {
            questions.incrementAndGet();
            return LocalTransactionState.COMMIT_MESSAGE;
        });
        try {
            Session.announce(other, topic);
            List<MessageExt> got = exactly(topic, 1);
            Report.equal(id, got.get(0).getMsgId(), "its id");
            Report.equal(1, questions.get(), "questions");
            return "committed by another member of the group";
        } finally {
            other.shutdown();
        }
    }
}
