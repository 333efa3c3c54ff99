package compat;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.body.TopicConfigSerializeWrapper;
import org.apache.rocketmq.common.protocol.header.GetMaxOffsetRequestHeader;
import org.apache.rocketmq.common.protocol.header.GetMaxOffsetResponseHeader;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;

/** Every record that a broker serves, of every topic and queue, system topics too, with every field. */
final class Photo {
    /** By topic and queue: records from the min offset on. */
    final Map<String, List<MessageExt>> queues = new TreeMap<>();
    final Map<String, Long> mins = new TreeMap<>();
    final Map<String, String> configs = new TreeMap<>();
    int messages;

    /** Waits for queues that `before` had to be as long again: the Java broker fills them after it has begun to listen. */
    static Photo take(Session session, String address, String brokerName, Photo before) throws Exception {
        Photo photo = new Photo();
        RemotingCommand answer = session.ask(address, RequestCode.GET_ALL_TOPIC_CONFIG, null, null);
        Report.equal(0, answer.getCode(), "code of the topic list");
        Map<String, TopicConfig> table = RemotingSerializable.decode(answer.getBody(), TopicConfigSerializeWrapper.class).getTopicConfigTable();
        for (TopicConfig config : new TreeMap<>(table).values()) {
            photo.configs.put(config.getTopicName(), config.toString());
            for (int queue = 0; queue < Math.max(config.getReadQueueNums(), config.getWriteQueueNums()); queue++) {
                if (config.getReadQueueNums() > 18) {
                    break; // the benchmark topic, which nobody writes to
                }
                String name = config.getTopicName() + "@" + queue;
                int expected = before == null ? 0 : before.queues.getOrDefault(name, List.of()).size();
                int at = queue;
                if (expected > 0) {
                    long min = before.mins.get(name);
                    Report.await(name + " with " + expected + " messages", 20, () -> max(session, address, config.getTopicName(), at) >= min + expected);
                }
                long max = max(session, address, config.getTopicName(), queue);
                if (max > 0) {
                    photo.pull(session, new MessageQueue(config.getTopicName(), brokerName, queue), name, max);
                }
            }
        }
        return photo;
    }

    private void pull(Session session, MessageQueue queue, String name, long max) throws Exception {
        long min = session.puller.minOffset(queue);
        List<MessageExt> records = session.pullQueue(queue, "*", min, max);
        mins.put(name, min);
        queues.put(name, records);
        messages += records.size();
    }

    static long max(Session session, String address, String topic, int queue) throws Exception {
        GetMaxOffsetRequestHeader header = new GetMaxOffsetRequestHeader();
        header.setTopic(topic);
        header.setQueueId(queue);
        RemotingCommand answer = session.ask(address, RequestCode.GET_MAX_OFFSET, header, null);
        Report.equal(0, answer.getCode(), "code of the max offset of " + topic + " " + queue);
        return ((GetMaxOffsetResponseHeader) answer.decodeCommandCustomHeader(GetMaxOffsetResponseHeader.class)).getOffset();
    }

    /** Every field of a record; what the client or the pull adds is left out. */
    static String record(MessageExt message) {
        TreeMap<String, String> properties = new TreeMap<>(message.getProperties());
        properties.remove(MessageConst.PROPERTY_MIN_OFFSET);
        properties.remove(MessageConst.PROPERTY_MAX_OFFSET);
        return message.getTopic() + " " + message.getQueueId() + " " + message.getQueueOffset() + " at " + message.getCommitLogOffset()
            + " size " + message.getStoreSize() + " flags " + message.getFlag() + "/" + message.getSysFlag()
            + " born " + message.getBornTimestamp() + " " + message.getBornHost()
            + " stored " + message.getStoreTimestamp() + " " + message.getStoreHost()
            + " again " + message.getReconsumeTimes() + " half " + message.getPreparedTransactionOffset()
            + " crc " + message.getBodyCRC() + " body " + Ledger.hash(message.getBody()) + " " + properties;
    }

    /** All of `before` is here, record for record, and what is new is explained by Java's own doings. Returns how many are new. */
    int follows(Photo before, Ledger ledger) {
        int added = 0;
        for (Map.Entry<String, String> config : before.configs.entrySet()) {
            Report.equal(config.getValue(), configs.get(config.getKey()), "configuration of " + config.getKey());
        }
        for (Map.Entry<String, List<MessageExt>> old : before.queues.entrySet()) {
            String name = old.getKey();
            List<MessageExt> now = queues.getOrDefault(name, List.of());
            Report.equal(before.mins.get(name), mins.get(name), "min offset of " + name);
            Report.that(now.size() >= old.getValue().size(), name + ": expected " + old.getValue().size() + " messages, got " + now.size());
            for (int at = 0; at < old.getValue().size(); at++) {
                Report.equal(record(old.getValue().get(at)), record(now.get(at)), "message " + at + " of " + name);
            }
        }
        for (Map.Entry<String, List<MessageExt>> queue : queues.entrySet()) {
            int known = before.queues.getOrDefault(queue.getKey(), List.of()).size();
            for (MessageExt message : queue.getValue().subList(known, queue.getValue().size())) {
                added++;
                Report.that(explained(message, ledger), "a message that nobody sent: " + record(message));
            }
        }
        return added;
    }

    /** Java delivers a delayed message once more after a restart (W-57) and asks again for a half message. */
    private static boolean explained(MessageExt message, Ledger ledger) {
        String topic = message.getTopic();
        if (topic.equals("SCHEDULE_TOPIC_XXXX") || topic.startsWith("RMQ_SYS_TRANS_") || topic.equals("TRANS_CHECK_MAX_TIME_TOPIC")) {
            return true;
        }
        return message.getProperty(MessageConst.PROPERTY_DELAY_TIME_LEVEL) != null && ledger.ids.contains(unique(message));
    }

    static String unique(MessageExt message) {
        return message.getProperty(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX);
    }

    List<MessageExt> of(String topic) {
        List<MessageExt> found = new ArrayList<>();
        queues.forEach((name, records) -> {
            if (name.startsWith(topic + "@")) {
                found.addAll(records);
            }
        });
        return found;
    }

    /** Every acknowledged message at its place, with its content; every delivered one at least once. */
    void holds(Ledger ledger) {
        Map<String, String> found = new TreeMap<>();
        Map<String, String> byId = new TreeMap<>();
        queues.forEach((name, records) -> records.forEach(message -> {
            found.put(name + "@" + message.getQueueOffset(), unique(message) + " " + Ledger.content(message));
            byId.put(message.getTopic() + " " + unique(message), Ledger.content(message));
        }));
        ledger.placed.forEach((place, sent) -> Report.equal(sent.id + " " + sent.content, found.get(place), "message at " + place));
        ledger.delivered.forEach((id, text) -> {
            String topic = text.substring(0, text.indexOf(' '));
            Report.equal(text.substring(topic.length() + 1), byId.get(topic + " " + id), "message " + id + " in " + topic);
        });
    }

    static boolean isRetry(String topic) {
        return topic.startsWith(MixAll.RETRY_GROUP_TOPIC_PREFIX);
    }
}
