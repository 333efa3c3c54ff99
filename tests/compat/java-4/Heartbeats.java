package compat;

import org.apache.rocketmq.client.ClientConfig;

/** What differs in 5.x when a consumer is made: here as 4.9 has it. */
final class Heartbeats {
    private Heartbeats() {
    }

    static void prepare(ClientConfig consumer) {
    }
}
