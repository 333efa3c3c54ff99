package compat;

import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.common.message.Message;

/** What was acknowledged by either broker: the sender's side of the story. */
final class Ledger {
    /** One message as its sender knows it. */
    static final class Sent {
        final String id;
        final String offsetId;
        final String topic;
        final int queue;
        final long offset;
        final String content;
        final String keys;

        Sent(String id, String offsetId, int queue, long offset, Message message) {
            this.id = id;
            this.offsetId = offsetId;
            this.topic = message.getTopic();
            this.queue = queue;
            this.offset = offset;
            this.content = content(message);
            this.keys = message.getKeys();
        }

        String place() {
            return topic + "@" + queue + "@" + offset;
        }
    }

    /** Where an answer named a place: the message is there, once, for good. By place. */
    final Map<String, Sent> placed = new LinkedHashMap<>();
    /** Delivered later by Java itself (delay, retry, commit): unique id to topic and content; at least once. */
    final Map<String, String> delivered = new LinkedHashMap<>();
    /** Half messages whose transactions are open: unique id to topic and content. */
    final Map<String, String> open = new LinkedHashMap<>();
    /** When a message with a time of its own is due, by unique id, and its content. */
    final Map<String, Long> timed = new LinkedHashMap<>();
    final Map<String, String> waiting = new LinkedHashMap<>();
    /** Every unique id that anyone sent. */
    final TreeSet<String> ids = new TreeSet<>();
    /** Unique ids by `topic#key`, of placed messages. */
    final Map<String, TreeSet<String>> byKey = new TreeMap<>();
    /** Committed offsets by `topic@group@queue`. */
    final Map<String, Long> offsets = new TreeMap<>();

    void add(Sent sent) {
        ids.add(sent.id);
        Sent before = placed.put(sent.place(), sent);
        Report.that(before == null, "two messages were acknowledged at " + sent.place());
        if (sent.keys != null) {
            for (String key : sent.keys.split(" ")) {
                byKey.computeIfAbsent(sent.topic + "#" + key, unused -> new TreeSet<>()).add(sent.id);
            }
        }
    }

    void forget(String topic) {
        placed.values().removeIf(sent -> sent.topic.equals(topic));
        byKey.keySet().removeIf(key -> key.startsWith(topic + "#"));
    }

    List<Sent> of(String topic) {
        List<Sent> found = new ArrayList<>();
        for (Sent sent : placed.values()) {
            if (sent.topic.equals(topic)) {
                found.add(sent);
            }
        }
        return found;
    }

    /** All that a sender chose: tags, keys, flag, its own properties, the body's hash. */
    static String content(Message message) {
        TreeMap<String, String> own = new TreeMap<>(message.getProperties());
        own.keySet().removeIf(name -> !name.startsWith("p-"));
        return message.getTags() + "|" + message.getKeys() + "|" + message.getFlag() + "|" + own + "|" + hash(message.getBody());
    }

    static String hash(byte[] bytes) {
        try {
            StringBuilder hex = new StringBuilder();
            for (byte b : MessageDigest.getInstance("SHA-1").digest(bytes)) {
                hex.append(String.format("%02x", b));
            }
            return bytes.length + ":" + hex.substring(0, 16);
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
