package compat;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.header.ConsumerSendMsgBackRequestHeader;
import org.apache.rocketmq.common.protocol.header.UpdateConsumerOffsetRequestHeader;

/** Writes one round of everything into a broker and notes in the ledger what was acknowledged. */
final class Writer {
    static final String RETRY_GROUP = "xretry";
    private static final String RETRY_TOPIC = MixAll.RETRY_GROUP_TOPIC_PREFIX + RETRY_GROUP;
    private static final int RETRIED = 5;
    private static final String TRANSACTIONS = "xtransactions";
    private final Session session;
    private final Ledger ledger;
    private final String brokerName;
    private final String address;
    private final String round;
    private final Random dice;

    Writer(Session session, Ledger ledger, String brokerName, String address, String round) {
        this.session = session;
        this.ledger = ledger;
        this.brokerName = brokerName;
        this.address = address;
        this.round = round;
        this.dice = new Random(round.hashCode());
    }

    private MessageQueue queue(String topic, int id) {
        return new MessageQueue(topic, brokerName, id);
    }

    Message message(String topic, int at, byte[] body) {
        Message message = new Message(topic, at % 3 == 0 ? "" : "tag" + at % 3, round + "-" + at + " shared-" + round + "-" + at % 40, body);
        message.setFlag(at);
        message.putUserProperty("p-round", round);
        message.putUserProperty("p-text", "Grüße 你好 " + at);
        return message;
    }

    private void send(Message message, int queue) throws Exception {
        SendResult result = session.producer.send(message, queue(message.getTopic(), queue));
        Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status in " + message.getTopic());
        ledger.add(new Ledger.Sent(result.getMsgId(), result.getOffsetMsgId(), result.getMessageQueue().getQueueId(), result.getQueueOffset(), message));
    }

    /** Plain messages, small and unicode, over the write queues of a topic. */
    void plain(String topic, int queues, int count) throws Exception {
        for (int at = 0; at < count; at++) {
            send(message(topic, at, Session.bytes(round + " 消息 " + at)), at % queues);
        }
    }

    /** Bodies up to 300 KB, half of them ones that the client compresses. */
    void big(String topic, int count) throws Exception {
        for (int at = 0; at < count; at++) {
            byte[] body = new byte[5_000 + dice.nextInt(295_000)];
            if (at % 2 == 0) {
                dice.nextBytes(body);
            }
            send(message(topic, 1000 + at, body), at % 2);
        }
    }

    void batch(String topic, int queue, int count) throws Exception {
        List<Message> members = new ArrayList<>();
        for (int at = 0; at < count; at++) {
            members.add(message(topic, 2000 + at, Session.bytes(round + " member " + at)));
        }
        SendResult result = session.producer.send(members, queue(topic, queue));
        Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status of a batch");
        String[] ids = result.getMsgId().split(",");
        String[] places = result.getOffsetMsgId().split(",");
        for (int at = 0; at < count; at++) {
            ledger.add(new Ledger.Sent(ids[at], places[at], queue, result.getQueueOffset() + at, members.get(at)));
        }
    }

    /** Offsets of three groups, some of them far behind. */
    void offsets(String topic, int queues) throws Exception {
        for (String group : new String[] {"xgroup-" + round, "xgroup-all", "xgroup-slow"}) {
            for (int queue = 0; queue < queues; queue++) {
                long offset = group.equals("xgroup-slow") ? 1 + queue : Photo.max(session, address, topic, queue) - queue;
                UpdateConsumerOffsetRequestHeader header = new UpdateConsumerOffsetRequestHeader();
                header.setConsumerGroup(group);
                header.setTopic(topic);
                header.setQueueId(queue);
                header.setCommitOffset(offset);
                Report.equal(0, session.ask(address, RequestCode.UPDATE_CONSUMER_OFFSET, header, null).getCode(), "code of an offset update");
                ledger.offsets.put(topic + "@" + group + "@" + queue, offset);
            }
        }
    }

    /** Several delay levels into one topic; waits until all were delivered. */
    void delayed(String topic, int count) throws Exception {
        for (int at = 0; at < count; at++) {
            Message message = message(topic, 3000 + at, Session.bytes(round + " later " + at));
            message.setDelayTimeLevel(at % 4 == 3 ? 2 : 1);
            SendResult result = session.producer.send(message, queue(topic, at % 2));
            ledger.ids.add(result.getMsgId());
            ledger.delivered.put(result.getMsgId(), topic + " " + Ledger.content(message));
        }
        arrived(topic, 2, count);
    }

    /** Waits until all that Java delivers by itself into a topic is there. */
    private void arrived(String topic, int queues, int more) throws Exception {
        TreeSet<String> wanted = new TreeSet<>(ledger.delivered.keySet());
        wanted.removeIf(id -> !ledger.delivered.get(id).startsWith(topic + " "));
        long[] read = new long[queues];
        Report.await(more + " messages delivered in " + topic, 30, () -> {
            for (int queue = 0; queue < queues; queue++) {
                long max = Photo.max(session, address, topic, queue);
                session.pullQueue(queue(topic, queue), "*", read[queue], max).forEach(message -> wanted.remove(Photo.unique(message)));
                read[queue] = max;
            }
            return wanted.isEmpty();
        });
    }

    /** Some messages given back by a consumer; waits for them in the retry topic. */
    void retried(String topic) throws Exception {
        List<MessageExt> found = session.pullQueue(queue(topic, 0), "*", 0, RETRIED);
        for (MessageExt message : found) {
            ConsumerSendMsgBackRequestHeader header = new ConsumerSendMsgBackRequestHeader();
            header.setOffset(message.getCommitLogOffset());
            header.setGroup(RETRY_GROUP);
            header.setDelayLevel(1);
            header.setOriginMsgId(message.getMsgId());
            header.setOriginTopic(topic);
            header.setUnitMode(false);
            header.setMaxReconsumeTimes(16);
            Report.equal(0, session.ask(address, RequestCode.CONSUMER_SEND_MSG_BACK, header, null).getCode(), "code of a send-back");
            ledger.delivered.put(Photo.unique(message), RETRY_TOPIC + " " + Ledger.content(message));
        }
        arrived(RETRY_TOPIC, 1, RETRIED);
    }

    /** Half of them are due at `due`, in milliseconds since 1970, the others soon. */
    void timed(String topic, int count, long due) throws Exception {
        for (int at = 0; at < count; at++) {
            Message message = message(topic, 5000 + at, Session.bytes(round + " timed " + at));
            long time = at % 2 == 0 ? due : System.currentTimeMillis() + 500;
            message.putUserProperty("TIMER_DELIVER_MS", String.valueOf(time));
            SendResult result = session.producer.send(message, queue(topic, at / 2 % 2));
            ledger.ids.add(result.getMsgId());
            ledger.timed.put(result.getMsgId(), time);
            ledger.waiting.put(result.getMsgId(), Ledger.content(message));
        }
    }

    /** Waits until all messages with a time of their own have come, each once and none early. */
    String come(String topic, int wait) throws Exception {
        List<MessageExt> found = new ArrayList<>();
        Report.await(ledger.timed.size() + " messages with a time of their own", wait, () -> {
            found.clear();
            for (int queue = 0; queue < 2; queue++) {
                found.addAll(session.pullQueue(queue(topic, queue), "*", 0, Photo.max(session, address, topic, queue)));
            }
            return found.size() >= ledger.timed.size();
        });
        TreeSet<String> once = new TreeSet<>();
        for (MessageExt message : found) {
            String id = Photo.unique(message);
            Report.that(once.add(id), "two of " + id + " in " + topic);
            Report.equal(ledger.waiting.get(id), Ledger.content(message), "content of " + id);
            Report.that(message.getStoreTimestamp() >= ledger.timed.get(id), id + " came early");
        }
        Report.equal(new TreeSet<>(ledger.timed.keySet()), once, "messages in " + topic);
        return once.size() + " came, each once and none early";
    }

    /** Commits what the transactions before left open: each message is then there once. */
    String settle(String topic) throws Exception {
        TransactionMQProducer producer = session.transactional(TRANSACTIONS, message -> LocalTransactionState.COMMIT_MESSAGE);
        Session.announce(producer, topic);
        ledger.open.forEach((id, text) -> ledger.delivered.put(id, text));
        arrived(topic, 2, ledger.open.size());
        Thread.sleep(6000); // two more rounds
        producer.shutdown();
        TreeSet<String> once = new TreeSet<>();
        int found = 0;
        for (int queue = 0; queue < 2; queue++) {
            long max = Photo.max(session, address, topic, queue);
            for (MessageExt message : session.pullQueue(queue(topic, queue), "*", 0, max)) {
                once.add(Photo.unique(message));
                found++;
            }
        }
        long wanted = ledger.delivered.values().stream().filter(text -> text.startsWith(topic + " ")).count();
        Report.equal(wanted, (long) once.size(), "messages committed in " + topic);
        Report.equal(once.size(), found, "messages in " + topic);
        int settled = ledger.open.size();
        ledger.open.clear();
        return settled + " open ones committed when asked, " + found + " in all, each once";
    }

    /** Four transactions committed, three rolled back, two left open. */
    void transactions(String topic) throws Exception {
        TransactionMQProducer producer = session.transactional(TRANSACTIONS, message -> LocalTransactionState.UNKNOW);
        LocalTransactionState[] ends = {LocalTransactionState.COMMIT_MESSAGE, LocalTransactionState.ROLLBACK_MESSAGE, LocalTransactionState.UNKNOW};
        int committed = 0;
        for (int at = 0; at < 9; at++) {
            Message message = message(topic, 4000 + at, Session.bytes(round + " transaction " + at));
            LocalTransactionState end = ends[at < 4 ? 0 : at < 7 ? 1 : 2];
            SendResult result = producer.sendMessageInTransaction(message, end);
            ledger.ids.add(result.getMsgId());
            if (end == LocalTransactionState.COMMIT_MESSAGE) {
                ledger.delivered.put(result.getMsgId(), topic + " " + Ledger.content(message));
                committed++;
            } else if (end == LocalTransactionState.UNKNOW) {
                ledger.open.put(result.getMsgId(), topic + " " + Ledger.content(message));
            }
        }
        arrived(topic, 2, committed);
        producer.shutdown();
    }
}
