//! Keys of `BrokerConfig`. Source: BrokerConfig (4.9.3).

use super::*;

/// The 80 keys of `BrokerConfig`.
pub(super) const BROKER: &[Key] = keys! {
    path rocketmqHome = "ROCKETMQ_HOME" [computed ignored(HOME)]
        "Install directory; only conf/plain_acl.yml and conf/tools.yml are looked for there.";
    text namesrvAddr = "NAMESRV_ADDR" [computed important used("broker")]
        ";-separated host:port list.";
    text brokerIP1 = "first usable local address" [computed important used("broker")]
        "Address registered for clients; also the storeHost written into every message.";
    text brokerIP2 = "first usable local address" [computed used("broker")]
        "Address registered for HA (slaves dial it).";
    text brokerName = "host name" [computed important used("broker")]
        "Master and its slaves share it; queues are named by it.";
    text brokerClusterName = "DefaultCluster" [important used("broker")]
        "Cluster; also a system topic and the CLUSTER property of messages.";
    long brokerId = "0" [any important used("broker")]
        "0 = master (forced to 0 for both master roles), >0 = slave (slave with <=0 refuses to \
            start).";
    int brokerPermission = "6" [range(0, 7) live used("broker")]
        "R=4, W=2; when not RW the registered topic perms are all replaced by this value.";
    int defaultTopicQueueNums = "8" [range(1, 65536) used("broker")]
        "Queue count of TBW102 (cap for auto-created topics).";
    flag autoCreateTopicEnable = "true" [important live used("broker")]
        "Creates TBW102 with perm 7.";
    flag clusterTopicEnable = "true" [used("broker")]
        "Topic named after the cluster gets RW.";
    flag brokerTopicEnable = "true" [used("broker")]
        "Topic named after the broker gets RW.";
    flag autoCreateSubscriptionGroup = "true" [important live used("broker")]
        "Unknown group is created with defaults on first use.";
    text messageStorePlugIn = "" [ignored(JAVA_PLUGIN)]
        "Comma-separated wrapper classes around the store.";
    text msgTraceTopicName = "RMQ_SYS_TRACE_TOPIC" [important used("broker")]
        "Trace topic name.";
    flag traceTopicEnable = "false" [important used("broker")]
        "Creates the trace topic (1 queue) on this broker.";
    int sendMessageThreadPoolNums = "min(cpu,4)" [computed ignored(ONE_THREAD)]
        "Send pool size.";
    int putMessageFutureThreadPoolNums = "min(cpu,4)" [computed ignored(ONE_THREAD)]
        "Pool completing send responses.";
    int pullMessageThreadPoolNums = "16" [ignored(ONE_THREAD)]
        "Pull pool size.";
    int processReplyMessageThreadPoolNums = "16" [ignored(ONE_THREAD)]
        "Request-reply pool.";
    int queryMessageThreadPoolNums = "8" [ignored(ONE_THREAD)]
        "Query pool.";
    int adminBrokerThreadPoolNums = "16" [ignored(ONE_THREAD)]
        "Default/admin pool (unbounded queue).";
    int clientManageThreadPoolNums = "32" [ignored(ONE_THREAD)]
        "Unregister/check-config pool.";
    int consumerManageThreadPoolNums = "32" [ignored(ONE_THREAD)]
        "Offset/consumer-list pool (built with an unbounded queue; its capacity key is unused).";
    int heartbeatThreadPoolNums = "min(32,cpu)" [computed ignored(ONE_THREAD)]
        "Heartbeat pool.";
    int endTransactionThreadPoolNums = "max(8+2*cpu, 4*sendMessageThreadPoolNums)"
        [computed ignored(ONE_THREAD)]
        "END_TRANSACTION pool.";
    int flushConsumerOffsetInterval = "5000" [unit("ms") at_least(1) used("broker")]
        "Period of rewriting consumerOffset.json.";
    int flushConsumerOffsetHistoryInterval = "60000" [unit("ms") ignored(NOT_READ)]
        "Kept for old files.";
    flag rejectTransactionMessage = "false" [important live used("broker")]
        "Refuse half messages with NO_PERMISSION.";
    flag fetchNamesrvAddrByAddressServer = "false" [important later(ADDRESS_SERVER)]
        "Poll HTTP address server every 2 min when namesrvAddr unset.";
    int sendThreadPoolQueueCapacity = "10000" [ignored(NO_QUEUE)]
        "Send queue bound ([OVERLOAD] beyond it).";
    int putThreadPoolQueueCapacity = "10000" [ignored(NO_QUEUE)]
        "Response-completion queue bound.";
    int pullThreadPoolQueueCapacity = "100000" [ignored(NO_QUEUE)]
        "Pull queue bound.";
    int replyThreadPoolQueueCapacity = "10000" [ignored(NO_QUEUE)]
        "Reply queue bound.";
    int queryThreadPoolQueueCapacity = "20000" [ignored(NO_QUEUE)]
        "Query queue bound.";
    int clientManagerThreadPoolQueueCapacity = "1000000" [ignored(NO_QUEUE)]
        "Client management queue bound.";
    int consumerManagerThreadPoolQueueCapacity = "1000000" [ignored(NO_QUEUE)]
        "Unused by the executor in 4.9.3.";
    int heartbeatThreadPoolQueueCapacity = "50000" [ignored(NO_QUEUE)]
        "Heartbeat queue bound.";
    int endTransactionPoolQueueCapacity = "100000" [ignored(NO_QUEUE)]
        "END_TRANSACTION queue bound.";
    int filterServerNums = "0" [ignored(JAVA_PLUGIN)]
        "Legacy class-filter helper processes.";
    flag longPollingEnable = "true" [live used("broker")]
        "Hold empty pulls.";
    long shortPollingTimeMills = "1000" [unit("ms") at_least(1) used("broker")]
        "Hold time and scan period when long polling is off.";
    flag notifyConsumerIdsChangedEnable = "true" [live ignored(ALWAYS_NOTIFY)]
        "Push group-membership change notices.";
    flag highSpeedMode = "false" [ignored(NOT_READ)]
        "Kept for old files.";
    flag commercialEnable = "true" [ignored(NOT_READ)]
        "Kept for old files.";
    int commercialTimerCount = "1" [ignored(NOT_READ)]
        "Kept for old files.";
    int commercialTransCount = "1" [ignored(NOT_READ)]
        "Kept for old files.";
    int commercialBigCount = "1" [ignored(NOT_READ)]
        "Kept for old files.";
    int commercialBaseCount = "1" [ignored(NOT_READ)]
        "Multiplier in stats hooks.";
    flag transferMsgByHeap = "true" [ignored(NO_MAPPING)]
        "True = copy into heap response; false = zero-copy FileRegion.";
    int maxDelayTime = "40" [ignored(NOT_READ)]
        "Kept for old files.";
    text regionId = "DefaultRegion" [used("broker")]
        "Returned as MSG_REGION ext field.";
    int registerBrokerTimeoutMills = "6000" [unit("ms") used("broker")]
        "Per-round registration wait.";
    flag slaveReadEnable = "false" [live used("broker")]
        "Allow/redirect reads to slaves.";
    flag disableConsumeIfConsumerReadSlowly = "false" [live later(SLOW_READER)]
        "Auto-disable groups that lag on disk (checked every 3 min).";
    long consumerFallbehindThreshold = "17179869184" [unit("B") live later(SLOW_READER)]
        "Lag bytes for the previous key.";
    flag brokerFastFailureEnable = "true" [used("store")]
        "Queue-age based rejection every 10 ms.";
    long waitTimeMillsInSendQueue = "200" [unit("ms") live ignored(STALLS)]
        "Largest age in the send queue.";
    long waitTimeMillsInPullQueue = "5000" [unit("ms") at_least(1) live used("broker")]
        "A pull whose messages are read from disk for so long is refused.";
    long waitTimeMillsInHeartbeatQueue = "31000" [unit("ms") ignored(STALLS)]
        "Largest age in the heartbeat queue.";
    long waitTimeMillsInTransactionQueue = "3000" [unit("ms") ignored(STALLS)]
        "Largest age in the transaction queue.";
    long startAcceptSendRequestTimeStamp = "0" [live used("broker")]
        "Epoch milliseconds before which sends are refused.";
    flag traceOn = "true" [live used("broker")]
        "Returned as TRACE_ON ext field.";
    flag enableCalcFilterBitMap = "false" [ignored(NO_BITMAP)]
        "Compute bloom bitmap at dispatch.";
    int expectConsumerNumUseFilter = "32" [range(1, 100000) used("broker")]
        "Bloom n; here only for the bit positions in consumerFilter.json.";
    int maxErrorRateOfBloomFilter = "20" [unit("%") range(1, 99) used("broker")]
        "Bloom f, valid 1..99; here only for the bit positions in consumerFilter.json.";
    long filterDataCleanTimeSpan = "86400000" [unit("ms") used("broker")]
        "Purge dead filter data after.";
    flag filterSupportRetry = "false" [used("broker")]
        "Apply original expression to %RETRY% topic.";
    flag enablePropertyFilter = "false" [used("broker")]
        "Allow SQL92 subscriptions.";
    flag compressedRegister = "false" [ignored(PLAIN_REGISTER)]
        "Compress REGISTER_BROKER body.";
    flag forceRegister = "true" [ignored(FULL_REGISTER)]
        "False = query data version first and register only if changed.";
    int registerNameServerPeriod = "30000" [unit("ms") used("broker")]
        "Clamped to 10000..60000.";
    long transactionTimeOut = "6000" [unit("ms") important live used("broker")]
        "Minimum half-message age before check-back.";
    int transactionCheckMax = "15" [important live used("broker")]
        "Check-backs before discard.";
    long transactionCheckInterval = "60000" [unit("ms") important used("broker")]
        "Check loop period (read once at thread start).";
    flag aclEnable = "false" [important refused(ACL)]
        "Load ACL validator.";
    flag storeReplyMessageEnable = "true" [used("broker")]
        "Also persist request-reply answers.";
    flag enableDetailStat = "true" [used("broker")]
        "Puts are counted by queue too, of up to 20,000 queues.";
    flag autoDeleteUnusedStats = "false" [ignored(STATS_GO)]
        "Drop stats with the topic/group.";
    flag isolateLogEnable = "false" [ignored(STDOUT)]
        "Per-broker log sub-directory.";
};
