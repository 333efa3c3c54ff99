// Makes the store whose files are the goldens of src/format.
//
//   javac -cp 'LIB/*' -d OUT GoldenStore.java && java ADD_OPENS -cp 'LIB/*:OUT' GoldenStore DIR
//
// LIB holds rocketmq-broker 4.9.3 and what it needs; ADD_OPENS is
// --add-opens=java.base/{java.nio,sun.nio.ch,jdk.internal.ref}=ALL-UNNAMED on JDK 17.

import java.net.Inet6Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.TopicFilterType;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExtBatch;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.MessageExtBrokerInner;
import org.apache.rocketmq.store.PutMessageResult;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.stats.BrokerStatsManager;

public class GoldenStore {
    static final long BORN = 1700000000000L;

    public static void main(String[] args) throws Exception {
        DefaultMessageStore store = open(args[0], 100, 400);
        InetSocketAddress born4 = new InetSocketAddress("127.0.0.1", 51644);
        InetSocketAddress store4 = new InetSocketAddress("127.0.0.1", 40911);
        InetSocketAddress born6 = new InetSocketAddress(InetAddress.getByName("2001:db8::1"), 51644);
        InetSocketAddress store6 = new InetSocketAddress(InetAddress.getByName("2001:db8::2"), 40911);
        String wide = "\u00e9\ud83d\udd25";
        put(store, "TopicTest", 3, 0, "hello", "TagA", "k1 k2", born4, store4, 0);
        put(store, "TopicTest", 3, 7, "", null, null, born6, store4, 0);
        put(store, "TopicTest", 0, 0, wide, wide, "k", born4, store6, 0);
        put(store, "%RETRY%g", 0, 0, "body", "TagA", "x", born6, store6, 2);
        putBatch(store, born4, store4);
        for (int i = 0; i < 12; i++) {
            put(store, "TopicTest", 3, 0, "filler filler filler filler filler filler " + i, "TagA", "k",
                born4, store4, 0);
        }
        Thread.sleep(1500);
        System.out.println("hash TagA " + "TagA".hashCode() + " wide " + wide.hashCode());
        store.shutdown();
        System.exit(0);
    }

    /** Small files, so that a few messages fill several. */
    static DefaultMessageStore open(String root, int slots, int entries) throws Exception {
        MessageStoreConfig config = new MessageStoreConfig();
        config.setStorePathRootDir(root);
        config.setStorePathCommitLog(root + "/commitlog");
        config.setMappedFileSizeCommitLog(2048);
        config.setMappedFileSizeConsumeQueue(20 * 100);
        config.setMaxHashSlotNum(slots);
        config.setMaxIndexNum(entries);
        config.setHaListenPort(23912);
        DefaultMessageStore store = new DefaultMessageStore(config, new BrokerStatsManager("C", false),
            (topic, queue, offset, tags, time, bits, properties) -> { }, new BrokerConfig());
        store.load();
        store.start();
        return store;
    }

    static void put(DefaultMessageStore store, String topic, int queue, int flag, String body, String tags,
        String keys, InetSocketAddress born, InetSocketAddress host, int reconsumeTimes) throws Exception {
        MessageExtBrokerInner m = new MessageExtBrokerInner();
        m.setTopic(topic);
        m.setQueueId(queue);
        m.setFlag(flag);
        m.setBody(body.getBytes("UTF-8"));
        m.setBornTimestamp(BORN);
        m.setBornHost(born);
        m.setStoreHost(host);
        m.setReconsumeTimes(reconsumeTimes);
        if (born.getAddress() instanceof Inet6Address) m.setBornHostV6Flag();
        if (host.getAddress() instanceof Inet6Address) m.setStoreHostAddressV6Flag();
        if (tags != null) m.setTags(tags);
        if (keys != null) m.setKeys(keys);
        m.putUserProperty("a", "5");
        MessageAccessor.putProperty(m, "CLUSTER", "DefaultCluster");
        m.setPropertiesString(MessageDecoder.messageProperties2String(m.getProperties()));
        m.setTagsCode(MessageExtBrokerInner.tagsString2tagsCode(TopicFilterType.SINGLE_TAG, m.getTags()));
        PutMessageResult r = store.putMessage(m);
        System.out.println("put " + r.getPutMessageStatus() + " " + r.getAppendMessageResult().getMsgId());
    }

    static void putBatch(DefaultMessageStore store, InetSocketAddress born, InetSocketAddress host) {
        List<Message> members = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            Message m = new Message("TopicTest", "TagB", "b" + i, ("batch" + i).getBytes());
            m.setFlag(i);
            members.add(m);
        }
        MessageExtBatch b = new MessageExtBatch();
        b.setTopic("TopicTest");
        b.setQueueId(3);
        b.setBornTimestamp(BORN);
        b.setBornHost(born);
        b.setStoreHost(host);
        b.setBody(MessageDecoder.encodeMessages(members));
        MessageAccessor.setProperties(b, new HashMap<>());
        MessageAccessor.putProperty(b, "WAIT", "true");
        MessageAccessor.putProperty(b, "CLUSTER", "C");
        StringBuilder hex = new StringBuilder();
        for (byte x : b.getBody()) hex.append(String.format("%02x", x));
        System.out.println("batch body " + hex);
        PutMessageResult r = store.putMessages(b);
        System.out.println("batch " + r.getPutMessageStatus() + " " + r.getAppendMessageResult().getMsgId());
    }
}
