package compat;

import org.apache.rocketmq.client.ClientConfig;

/** What differs from 4.9 when a consumer is made. */
final class Heartbeats {
    private Heartbeats() {
    }

    /**
     * A consumer changes the version of its subscription when it is given queues, and tells the brokers unless another of its
     * heartbeats is under way at that moment. Its pulls are refused with code 25 then until its next heartbeat, by
     * default 30 s later.
     */
    static void prepare(ClientConfig consumer) {
        consumer.setHeartbeatBrokerInterval(3000);
    }
}
