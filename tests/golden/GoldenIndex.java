// Makes the log and the index files that are the goldens of src/format/index_file.rs.
//
//   javac -cp 'LIB/*' -d OUT GoldenStore.java GoldenIndex.java && java ADD_OPENS -cp 'LIB/*:OUT' GoldenIndex DIR
//
// LIB and ADD_OPENS as in GoldenStore.java. Prints each file as `KIND NAME HEX`, zeros at the end left out.

import java.io.File;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.util.Arrays;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.MessageExtBrokerInner;

public class GoldenIndex {
    public static void main(String[] args) throws Exception {
        DefaultMessageStore store = GoldenStore.open(args[0], 7, 12);
        String smallest = smallest("TopicTest#");
        put(store, "TopicTest", 0, "k1 k2", "u0");
        put(store, "TopicTest", 0, " a  b ", "u1");      // blanks at all places
        put(store, "TopicTest", 12, "k1", "u2");         // rollback: not indexed
        put(store, "TopicTest", 4, "k1", "u3");          // prepared
        Thread.sleep(2300);                              // the next entries are seconds later
        put(store, "TopicTest", 8, "k1", "u4");          // committed
        put(store, "%RETRY%g", 0, "\u00e9\ud83d\udd25", "u5");
        put(store, "TopicTest", 0, null, "u6");
        put(store, "TopicTest", 0, "k1", null);
        put(store, "TopicTest", 0, smallest, "u7");      // hash Integer.MIN_VALUE
        put(store, "TopicTest", 0, null, null);          // no key at all
        put(store, "TopicTest", 0, "p q r s t u v w x y z", "u8"); // over the end of a file
        Thread.sleep(1500);
        store.shutdown();
        for (String kind : new String[] {"commitlog", "index"}) {
            File[] files = new File(args[0], kind).listFiles();
            Arrays.sort(files);
            for (File file : files) {
                byte[] bytes = Files.readAllBytes(file.toPath());
                int end = bytes.length;
                while (end > 0 && bytes[end - 1] == 0) end--;
                StringBuilder hex = new StringBuilder();
                for (int at = 0; at < end; at++) hex.append(String.format("%02x", bytes[at]));
                System.out.println(kind + " " + file.getName() + " " + hex);
            }
        }
        System.exit(0);
    }

    /** A key that makes the hash of prefix + key the one number without an absolute value. */
    static String smallest(String prefix) {
        int length = 8;
        int start = prefix.hashCode();
        for (int at = 0; at < length; at++) start *= 31;
        int base = 0;
        for (int at = 0; at < length; at++) base = base * 31 + 'A';
        long rest = (Integer.MIN_VALUE - start - base) & 0xFFFFFFFFL;
        char[] key = new char[length];
        for (int at = length - 1; at >= 0; at--) {
            key[at] = (char) ('A' + rest % 31);
            rest /= 31;
        }
        String found = new String(key);
        if ((prefix + found).hashCode() != Integer.MIN_VALUE) throw new IllegalStateException(found);
        return found;
    }

    static void put(DefaultMessageStore store, String topic, int sysFlag, String keys, String unique) {
        MessageExtBrokerInner m = new MessageExtBrokerInner();
        m.setTopic(topic);
        m.setQueueId(0);
        m.setSysFlag(sysFlag);
        m.setBody("body".getBytes());
        m.setBornTimestamp(1700000000000L);
        m.setBornHost(new InetSocketAddress("127.0.0.1", 51644));
        m.setStoreHost(new InetSocketAddress("127.0.0.1", 40911));
        if (keys != null) m.setKeys(keys);
        if (unique != null) MessageAccessor.putProperty(m, "UNIQ_KEY", unique);
        MessageAccessor.putProperty(m, "CLUSTER", "C");
        m.setPropertiesString(MessageDecoder.messageProperties2String(m.getProperties()));
        store.putMessage(m);
    }
}
