package compat;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.tools.command.SubCommand;
import org.apache.rocketmq.tools.command.broker.BrokerConsumeStatsSubCommad;

/** What is called otherwise in 5.x: here as 4.9 has it. */
final class Version {
    /** Views a message by its offset id. */
    static MessageExt viewMessage(DefaultMQProducer producer, String topic, String offsetMessageId) throws Exception {
        return producer.viewMessage(offsetMessageId);
    }

    static SubCommand brokerConsumeStats() {
        return new BrokerConsumeStatsSubCommad();
    }
}
