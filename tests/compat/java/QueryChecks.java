package compat;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.header.QueryMessageRequestHeader;
import org.apache.rocketmq.common.protocol.header.ViewMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** Queries by key, by unique key, by time, and views by offset id. */
final class QueryChecks {
    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        QueryChecks checks = new QueryChecks(cluster);
        report.check("query-by-key", checks::byKey);
        report.check("query-unique-key", checks::byUniqueKey);
        report.check("view-by-id", checks::byId);
        report.check("query-nothing", checks::nothing);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private QueryChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    private Map<String, SendResult> send(String topic, int count) throws Exception {
        Map<String, SendResult> sent = new TreeMap<>();
        for (int at = 0; at < count; at++) {
            // Two keys of one hash, a key with wide characters, one that all have.
            String keys = "own-" + at + " all " + (at % 2 == 0 ? "Aa" : "BB") + " \u00e9\ud83d\udd25" + at % 3;
            sent.put("own-" + at, session.producer.send(new Message(topic, "T", keys, Session.bytes("query " + at))));
        }
        session.pullAll(topic, "*", count);
        return sent;
    }

    private List<MessageExt> query(String topic, String key, int max, long begin, long end) throws Exception {
        // Java's dispatcher is a moment behind.
        for (int tries = 0; ; tries++) {
            try {
                return session.producer.queryMessage(topic, key, max, begin, end).getMessageList();
            } catch (MQClientException none) {
                if (tries >= 3) {
                    return new ArrayList<>();
                }
                Thread.sleep(300);
            }
        }
    }

    private String byKey() throws Exception {
        String topic = cluster.topic("QueryKey", 3);
        Map<String, SendResult> sent = send(topic, 60);
        for (Map.Entry<String, SendResult> one : sent.entrySet()) {
            List<MessageExt> found = query(topic, one.getKey(), 32, 0, Long.MAX_VALUE);
            Report.equal(1, found.size(), "messages with " + one.getKey());
            Report.equal(one.getValue().getMsgId(), found.get(0).getMsgId(), "id of " + one.getKey());
        }
        Report.equal(60, query(topic, "all", 64, 0, Long.MAX_VALUE).size(), "messages with the key that all have");
        List<MessageExt> some = query(topic, "all", 5, 0, Long.MAX_VALUE);
        Report.equal(5, some.size(), "messages with limit 5");
        List<String> newest = new ArrayList<>();
        for (MessageExt message : some) {
            newest.add(new String(message.getBody(), "UTF-8"));
        }
        Report.equal("[query 55, query 56, query 57, query 58, query 59]", newest.toString(), "the newest five, oldest first");
        Report.equal(30, query(topic, "BB", 64, 0, Long.MAX_VALUE).size(), "messages with BB, whose hash is that of Aa");
        Report.equal(20, query(topic, "\u00e9\ud83d\udd251", 64, 0, Long.MAX_VALUE).size(), "messages with wide characters");
        long now = System.currentTimeMillis();
        Report.equal(60, query(topic, "all", 64, now - 60_000, now + 60_000).size(), "messages of the last minute");
        Report.equal(0, query(topic, "all", 64, 0, now - 3_600_000).size(), "messages older than an hour");
        return "60 own keys, 60 shared (5 of them newest), 30 of a shared hash, 20 wide, by time";
    }

    private String byUniqueKey() throws Exception {
        String topic = cluster.topic("QueryUnique", 2);
        Map<String, SendResult> sent = send(topic, 20);
        for (SendResult one : sent.values()) {
            MessageExt found = session.producer.viewMessage(topic, one.getMsgId());
            Report.equal(one.getMsgId(), found.getMsgId(), "message by unique key");
            Report.equal(one.getQueueOffset(), found.getQueueOffset(), "its queue offset");
        }
        return "20 of 20 by unique key";
    }

    private String byId() throws Exception {
        String topic = cluster.topic("ViewId", 2);
        Map<String, SendResult> sent = send(topic, 10);
        for (SendResult one : sent.values()) {
            MessageExt found = Version.viewMessage(session.producer, topic, one.getOffsetMsgId());
            Report.equal(one.getMsgId(), found.getMsgId(), "message by offset id");
        }
        ViewMessageRequestHeader header = new ViewMessageRequestHeader();
        header.setOffset(1L << 40);
        RemotingCommand answer = session.ask(cluster.broker, RequestCode.VIEW_MESSAGE_BY_ID, header, null);
        Report.equal("1 can not find message by the offset, " + (1L << 40), answer.getCode() + " " + answer.getRemark(), "an offset past the end");
        return "10 of 10 by offset id, code 1 past the end";
    }

    private String nothing() throws Exception {
        QueryMessageRequestHeader header = new QueryMessageRequestHeader();
        header.setTopic("NoSuchTopic");
        header.setKey("none");
        header.setMaxNum(32);
        header.setBeginTimestamp(0L);
        header.setEndTimestamp(Long.MAX_VALUE);
        RemotingCommand answer = session.ask(cluster.broker, RequestCode.QUERY_MESSAGE, header, null);
        Report.equal("22 can not find message, maybe time range not correct", answer.getCode() + " " + answer.getRemark(), "code and remark");
        Report.equal("0 0", answer.getExtFields().get("indexLastUpdateTimestamp") + " "
            + answer.getExtFields().get("indexLastUpdatePhyoffset"), "index fields");
        return "code 22 with its remark";
    }
}
