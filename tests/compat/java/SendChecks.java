package compat;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageId;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.header.SendMessageRequestHeader;
import org.apache.rocketmq.common.protocol.header.SendMessageResponseHeader;
import org.apache.rocketmq.common.protocol.header.namesrv.GetRouteInfoRequestHeader;
import org.apache.rocketmq.common.protocol.route.TopicRouteData;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** The ways to send, and that what was sent is what is stored. */
final class SendChecks {
    static void run(WireSuite.Cluster cluster, Report report) throws Exception {
        SendChecks checks = new SendChecks(cluster);
        report.check("send-sync", checks::sync);
        report.check("send-async", checks::async);
        report.check("send-oneway", checks::oneway);
        report.check("send-batch", checks::batch);
        report.check("send-selector", checks::selector);
        report.check("send-code-10", checks::code10);
        report.check("send-auto-create", checks::autoCreate);
        report.check("send-no-wait", checks::noWait);
        report.check("message-fields", checks::fields);
        report.check("message-unicode", checks::unicode);
        report.check("message-compressed", checks::compressed);
        report.check("message-big", checks::big);
        report.check("message-too-big", checks::tooBig);
        report.check("unknown-code", checks::unknownCode);
    }

    private final WireSuite.Cluster cluster;
    private final Session session;

    private SendChecks(WireSuite.Cluster cluster) {
        this.cluster = cluster;
        this.session = cluster.session;
    }

    private String sync() throws Exception {
        String topic = cluster.topic("SendSync", 4);
        Map<String, String> sent = new LinkedHashMap<>();
        Map<Integer, Long> next = new TreeMap<>();
        long before = System.currentTimeMillis();
        for (int at = 0; at < 200; at++) {
            Message message = new Message(topic, "T", "k" + at, Session.bytes("body " + at));
            SendResult result = session.producer.send(message);
            Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
            Report.equal(message.getProperty(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX), result.getMsgId(), "msgId");
            Report.equal(cluster.brokerName, result.getMessageQueue().getBrokerName(), "broker name");
            Report.equal("DefaultRegion", result.getRegionId(), "region");
            Report.that(result.isTraceOn(), "expected TRACE_ON true");
            int queue = result.getMessageQueue().getQueueId();
            Report.equal(next.getOrDefault(queue, 0L), result.getQueueOffset(), "offset in queue " + queue);
            next.put(queue, result.getQueueOffset() + 1);
            MessageId id = MessageDecoder.decodeMessageId(result.getOffsetMsgId());
            Report.equal("/" + cluster.broker, id.getAddress(), "address in the offset message id");
            sent.put(result.getMsgId() + result.getOffsetMsgId(), Session.content(message));
        }
        Report.equal("{0=50, 1=50, 2=50, 3=50}", next, "messages by queue");
        Map<String, String> got = new LinkedHashMap<>();
        List<MessageExt> pulled = session.pullAll(topic, "*", 200);
        Session.contents(pulled);
        for (MessageExt message : pulled) {
            MessageId id = MessageDecoder.decodeMessageId(MessageDecoder.createMessageId(message.getStoreHost(), message.getCommitLogOffset()));
            Report.equal(message.getCommitLogOffset(), id.getOffset(), "physical offset");
            got.put(message.getMsgId() + MessageDecoder.createMessageId(message.getStoreHost(), message.getCommitLogOffset()),
                Session.content(message));
            Report.that(message.getStoreTimestamp() >= before && message.getStoreTimestamp() <= System.currentTimeMillis(), "store timestamp");
        }
        Report.same(sent, got, topic);
        return "200 sent, 200 pulled, 50 in each of 4 queues";
    }

    private String async() throws Exception {
        String topic = cluster.topic("SendAsync", 4);
        int count = 300;
        Map<String, String> sent = new ConcurrentHashMap<>();
        AtomicReference<Throwable> wrong = new AtomicReference<>();
        CountDownLatch done = new CountDownLatch(count);
        for (int at = 0; at < count; at++) {
            Message message = new Message(topic, "T", "k" + at, Session.bytes("async " + at));
            session.producer.send(message, new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    sent.put(result.getMsgId(), Session.content(message));
                    done.countDown();
                }

                @Override
                public void onException(Throwable error) {
                    wrong.set(error);
                    done.countDown();
                }
            });
        }
        Report.that(done.await(20, TimeUnit.SECONDS), "expected 300 callbacks, missing " + done.getCount());
        Report.that(wrong.get() == null, "expected onSuccess, got " + wrong.get());
        Report.same(sent, Session.contents(session.pullAll(topic, "*", sent.size())), topic);
        return "300 callbacks, 300 pulled";
    }

    private String oneway() throws Exception {
        String topic = cluster.topic("SendOneway", 4);
        Map<String, String> sent = new LinkedHashMap<>();
        for (int at = 0; at < 200; at++) {
            Message message = new Message(topic, "T", "k" + at, Session.bytes("oneway " + at));
            session.producer.sendOneway(message);
            sent.put(message.getProperty(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX), Session.content(message));
        }
        Report.same(sent, Session.contents(session.pullAll(topic, "*", sent.size())), topic);
        return "200 sent, 200 pulled";
    }

    private String batch() throws Exception {
        String topic = cluster.topic("SendBatch", 4);
        Map<String, String> sent = new LinkedHashMap<>();
        for (int round = 0; round < 8; round++) {
            List<Message> batch = new ArrayList<>();
            for (int at = 0; at < 25; at++) {
                Message message = new Message(topic, "T" + at % 3, "k" + at, Session.bytes("batch " + round + "." + at));
                message.setFlag(at);
                message.putUserProperty("round", String.valueOf(round));
                batch.add(message);
            }
            SendResult result = session.producer.send(batch);
            Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
            String[] ids = result.getMsgId().split(",");
            String[] offsetIds = result.getOffsetMsgId().split(",");
            Report.equal(25, ids.length, "message ids of a batch of 25");
            Report.equal(25, offsetIds.length, "offset message ids of a batch of 25");
            List<MessageExt> stored = session.pullQueue(result.getMessageQueue(), "*", result.getQueueOffset(), result.getQueueOffset() + 25);
            for (int at = 0; at < 25; at++) {
                String expected = Version.BATCH_IS_ONE_ID ? stored.get(0).getMsgId() : ids[at];
                Report.equal(expected, stored.get(at).getMsgId(), "id at place " + at);
                Report.equal(offsetIds[at], offsetId(stored.get(at)), "offset id at place " + at);
                Report.equal(round, stored.get(at).getUserProperty("round"), "user property");
                sent.put(offsetIds[at], Session.content(batch.get(at)));
            }
        }
        Report.equal(200, sent.size(), "offset message ids");
        Map<String, String> got = new LinkedHashMap<>();
        for (MessageExt message : session.pullAll(topic, "*", sent.size())) {
            got.put(offsetId(message), Session.content(message));
        }
        Report.same(sent, got, topic);
        return "8 batches of 25, 200 pulled, offsets consecutive";
    }

    private static String offsetId(MessageExt message) {
        return MessageDecoder.createMessageId(message.getStoreHost(), message.getCommitLogOffset());
    }

    private String selector() throws Exception {
        String topic = cluster.topic("SendSelector", 4);
        List<String> sent = new ArrayList<>();
        for (int at = 0; at < 200; at++) {
            int order = at % 10;
            Message message = new Message(topic, "T", "k" + at, Session.bytes("order " + order + " step " + at / 10));
            SendResult result = session.producer.send(message, (queues, unused, key) -> queues.get((Integer) key % queues.size()), order);
            Report.equal(order % 4, result.getMessageQueue().getQueueId(), "queue of order " + order);
            sent.add(order % 4 + " " + new String(message.getBody()));
        }
        List<String> got = new ArrayList<>();
        for (MessageExt message : session.pullAll(topic, "*", 200)) {
            got.add(message.getQueueId() + " " + new String(message.getBody()));
        }
        sent.sort((left, right) -> left.charAt(0) - right.charAt(0)); // stable: the order inside a queue stays
        Report.equal(sent, got, "messages in queue order");
        return "200 messages of 10 keys in order in 4 queues";
    }

    /** The first form of a send request, with long field names. */
    private String code10() throws Exception {
        String topic = cluster.topic("SendCode10", 2);
        for (int at = 0; at < 20; at++) {
            SendMessageRequestHeader header = header(topic, at % 2);
            RemotingCommand answer = session.ask(cluster.broker, RequestCode.SEND_MESSAGE, header, Session.bytes("ten " + at));
            Report.equal(0, answer.getCode(), "code, remark " + answer.getRemark());
            SendMessageResponseHeader reply =
                (SendMessageResponseHeader) answer.decodeCommandCustomHeader(SendMessageResponseHeader.class);
            Report.equal(at % 2, reply.getQueueId(), "queue id");
            Report.equal(at / 2, reply.getQueueOffset(), "queue offset");
        }
        SendMessageRequestHeader header = header(topic, 9);
        RemotingCommand answer = session.ask(cluster.broker, RequestCode.SEND_MESSAGE, header, Session.bytes("x"));
        Report.equal(1, answer.getCode(), "code for queue 9 of 2");
        Report.that(answer.getRemark().contains("request queueId[9] is illegal"), "remark for queue 9 of 2: got " + answer.getRemark());
        Report.equal(20, session.pullAll(topic, "*", 20).size(), "messages");
        return "20 sent and pulled; queue 9 of 2 refused";
    }

    private SendMessageRequestHeader header(String topic, int queue) {
        SendMessageRequestHeader header = new SendMessageRequestHeader();
        header.setProducerGroup("compat_ten");
        header.setTopic(topic);
        header.setDefaultTopic("TBW102");
        header.setDefaultTopicQueueNums(4);
        header.setQueueId(queue);
        header.setSysFlag(0);
        header.setBornTimestamp(System.currentTimeMillis());
        header.setFlag(0);
        header.setProperties("KEYS\u0001ten\u0002");
        header.setReconsumeTimes(0);
        header.setUnitMode(false);
        header.setBatch(false);
        return header;
    }

    private String autoCreate() throws Exception {
        String topic = "SendAutoCreated";
        Report.that(session.route(cluster.nameServer, topic) == null, "expected no route before the first send");
        RemotingCommand none = session.ask(cluster.nameServer, RequestCode.GET_ROUTEINFO_BY_TOPIC, routeHeader(topic), null);
        Report.equal(17, none.getCode(), "code of an unknown topic at the name server");
        Report.that(none.getRemark().contains("No topic route info in name server for the topic: " + topic), "remark: " + none.getRemark());
        Map<String, String> sent = session.send(topic, "T", 20);
        Report.await("route of " + topic, 10, () -> session.route(cluster.nameServer, topic) != null);
        TopicRouteData route = session.route(cluster.nameServer, topic);
        Report.equal(4, route.getQueueDatas().get(0).getWriteQueueNums(), "write queues");
        Report.equal(4, route.getQueueDatas().get(0).getReadQueueNums(), "read queues");
        Report.equal(6, route.getQueueDatas().get(0).getPerm(), "permission");
        Report.same(sent, Session.contents(session.pullAll(topic, "*", sent.size())), topic);
        return "20 sent to a topic that did not exist, 4 queues";
    }

    private static GetRouteInfoRequestHeader routeHeader(String topic) {
        var header = new GetRouteInfoRequestHeader();
        header.setTopic(topic);
        return header;
    }

    private String noWait() throws Exception {
        String topic = cluster.topic("SendNoWait", 1);
        Map<String, String> sent = new LinkedHashMap<>();
        for (int at = 0; at < 50; at++) {
            Message message = new Message(topic, "T", "k", Session.bytes("no wait " + at));
            message.setWaitStoreMsgOK(false);
            SendResult result = session.producer.send(message);
            Report.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
            sent.put(result.getMsgId(), Session.content(message));
        }
        Report.same(sent, Session.contents(session.pullAll(topic, "*", sent.size())), topic);
        return "50 sent with WAIT=false, 50 pulled";
    }

    private String fields() throws Exception {
        String topic = cluster.topic("MessageFields", 1);
        Message message = new Message(topic, "TagX", "keyA keyB", Session.bytes("fields"));
        message.setFlag(-77);
        message.putUserProperty("alpha", "1");
        message.putUserProperty("spaced", "a  b ");
        message.putUserProperty("quote", "a\"b\\c{}[],:'");
        message.setBuyerId("buyer");
        long before = System.currentTimeMillis();
        SendResult result = session.producer.send(message);
        MessageExt got = session.pullAll(topic, "*", 1).get(0);
        Report.equal("TagX", got.getTags(), "tags");
        Report.equal("keyA keyB", got.getKeys(), "keys");
        Report.equal(-77, got.getFlag(), "flag");
        Report.equal("1", got.getUserProperty("alpha"), "alpha");
        Report.equal("a  b ", got.getUserProperty("spaced"), "blanks");
        Report.equal("a\"b\\c{}[],:'", got.getUserProperty("quote"), "quotes");
        Report.equal("buyer", got.getBuyerId(), "buyer");
        Report.equal("DefaultCluster", got.getProperty("CLUSTER"), "CLUSTER, set by the broker");
        Report.equal("fields", new String(got.getBody()), "body");
        Report.equal(UtilAll.crc32(got.getBody()), got.getBodyCRC(), "body CRC");
        Report.equal(0, got.getReconsumeTimes(), "reconsume times");
        Report.equal(0, got.getSysFlag(), "sysFlag");
        Report.equal(0, got.getPreparedTransactionOffset(), "prepared transaction offset");
        Report.equal("/" + cluster.broker, got.getStoreHost(), "store host");
        Report.that(got.getBornHostString().equals("127.0.0.1"), "born host: " + got.getBornHostString());
        Report.that(got.getBornTimestamp() >= before && got.getBornTimestamp() <= got.getStoreTimestamp() + 1, "born timestamp");
        Report.equal(result.getQueueOffset(), got.getQueueOffset(), "queue offset");
        // WAIT is not stored, CLUSTER is added by the broker, MIN_OFFSET and MAX_OFFSET by the client.
        Report.equal("[BUYER_ID, CLUSTER, KEYS, MAX_OFFSET, MIN_OFFSET, TAGS, UNIQ_KEY, alpha, quote, spaced]",
            new TreeMap<>(got.getProperties()).keySet(), "property names");
        // Size as stored: fixed fields, two IPv4 hosts, body, topic, properties.
        Report.that(got.getStoreSize() > 91 + 6 + topic.length(), "store size " + got.getStoreSize());
        return "14 fields, 8 properties, stored in " + got.getStoreSize() + " bytes";
    }

    private String unicode() throws Exception {
        String topic = cluster.topic("MessageUnicode", 2);
        Map<String, String> sent = new LinkedHashMap<>();
        String[] texts = {"\u6d88\u606f\u4e2d\u95f4\u4ef6", "\ud83d\ude80\ud83d\udd25 fire", "\u0000\u0007 control", "e\u0301 \u00e9 \u200f\u05d0", "\u00ff\ufffd"};
        for (String text : texts) {
            Message message = new Message(topic, "\u6807\u7b7e", "\u952e" + sent.size(), Session.bytes(text));
            String property = text.replace("\u0000", "");
            message.putUserProperty("\u540d", property);
            SendResult result = session.producer.send(message);
            sent.put(result.getMsgId(), Session.content(message) + "|" + property);
        }
        Map<String, String> got = new LinkedHashMap<>();
        for (MessageExt message : session.pullAll(topic, "*", 5)) {
            got.put(message.getMsgId(), Session.content(message) + "|" + message.getUserProperty("\u540d"));
        }
        Report.same(sent, got, topic);
        Report.equal(5, session.pullAll(topic, "\u6807\u7b7e", 5).size(), "messages with the unicode tag");
        return "5 bodies, tags, keys and properties";
    }

    private String compressed() throws Exception {
        String topic = cluster.topic("MessageCompressed", 1);
        char[] text = new char[100_000];
        Arrays.fill(text, 'z');
        Message message = new Message(topic, Session.bytes(new String(text)));
        session.producer.send(message);
        MessageExt got = session.pullAll(topic, "*", 1).get(0);
        Report.equal(new String(text), new String(got.getBody()), "body");
        Report.equal(Version.COMPRESSED, got.getSysFlag() & 0x701, "compression bits of sysFlag");
        Report.that(got.getStoreSize() < 2000, "expected under 2000 bytes stored, got " + got.getStoreSize());
        return "100000 bytes stored in " + got.getStoreSize();
    }

    /** A body that does not compress. */
    private static byte[] noise(int size) {
        byte[] body = new byte[size];
        new Random(size).nextBytes(body);
        return body;
    }

    private String big() throws Exception {
        String topic = cluster.topic("MessageBig", 1);
        DefaultMQProducer producer = session.producer("compat_big");
        try {
            producer.setCompressMsgBodyOverHowmuch(64 * 1024 * 1024);
            int[] sizes = {4 * 1024 * 1024 - 1024, 1024 * 1024, 1};
            for (int size : sizes) {
                Report.equal(SendStatus.SEND_OK, producer.send(new Message(topic, noise(size)), 20_000).getSendStatus(), "status of " + size);
            }
            List<MessageExt> got = session.pullAll(topic, "*", 3);
            Report.equal(3, got.size(), "messages");
            for (int at = 0; at < 3; at++) {
                Report.that(Arrays.equals(noise(sizes[at]), got.get(at).getBody()), "body of " + sizes[at] + " bytes differs");
            }
        } finally {
            producer.shutdown();
        }
        return "4193280, 1048576 and 1 bytes sent and pulled";
    }

    private String tooBig() throws Exception {
        String topic = cluster.topic("MessageTooBig", 1);
        int limit = 4 * 1024 * 1024;
        try {
            session.producer.send(new Message(topic, noise(limit + 1)));
            throw new AssertionError("expected the client to refuse " + (limit + 1) + " bytes, got success");
        } catch (MQClientException error) {
            Report.equal(13, error.getResponseCode(), "code of the client's refusal");
        }
        DefaultMQProducer producer = session.producer("compat_too_big");
        String remark;
        try {
            producer.setMaxMessageSize(2 * limit);
            producer.setCompressMsgBodyOverHowmuch(2 * limit);
            producer.send(new Message(topic, noise(limit + 1)), 20_000);
            throw new AssertionError("expected the broker to refuse " + (limit + 1) + " bytes, got success");
        } catch (MQBrokerException error) {
            Report.equal(13, error.getResponseCode(), "code of the broker's refusal, " + error.getErrorMessage());
            remark = error.getErrorMessage();
        } finally {
            producer.shutdown();
        }
        Report.that(remark.startsWith("the message is illegal, maybe msg body or properties length not matched."), "remark: got " + remark);
        Report.equal(0, session.pullAll(topic, "*", 0).size(), "messages stored");
        Report.equal(1, session.send(topic, "T", 1).size(), "sends after the refusal");
        return "client and broker refuse 4194305 bytes with code 13";
    }

    private String unknownCode() throws Exception {
        // Not asked at the name server: Java's never answers a code that it does not know.
        RemotingCommand answer = session.ask(cluster.broker, 31999, null, null);
        Report.equal(3, answer.getCode(), "code");
        Report.equal(" request type 31999 not supported", answer.getRemark(), "remark");
        return "code 3, the number in the remark";
    }
}
