"""Every request that is answered here, with the header fields of 4.9.3: name, type, `!` where Java declares it
not-null, and the domain its values come from. Source: the request headers of 4.9.3.

A row: code, name, server (b broker, n name server), weight, fields, body. A field: `name[!]:type:domain`.
"""


def row(code, name, server, weight, fields="", body=None, **more):
    parsed = []
    for field in fields.split():
        head, kind, domain = field.split(":")
        parsed.append((head.rstrip("!"), kind, head.endswith("!"), domain))
    return dict(code=code, name=name, server=server, weight=weight, fields=parsed, body=body, **more)


SEND = ("producerGroup!:str:producer topic!:str:topic defaultTopic!:str:template defaultTopicQueueNums!:int:count "
        "queueId!:int:queue sysFlag!:int:sendflag bornTimestamp!:long:time flag!:int:number "
        "properties:str:properties reconsumeTimes:int:times unitMode:bool:false batch:bool:false "
        "maxReconsumeTimes:int:times")
LETTERS = dict(zip("producerGroup topic defaultTopic defaultTopicQueueNums queueId sysFlag bornTimestamp flag "
                   "properties reconsumeTimes unitMode maxReconsumeTimes batch".split(), "abcdefghijklm"))


def short(fields, **domains):
    """The one-letter form of the send fields, with other domains where named."""
    out = []
    for field in fields.split():
        head, kind, domain = field.split(":")
        name = head.rstrip("!")
        out.append(f"{LETTERS[name]}{'!' if head.endswith('!') else ''}:{kind}:{domains.get(name, domain)}")
    return " ".join(out)


PULL = ("consumerGroup!:str:group topic!:str:topic queueId!:int:queue queueOffset!:long:offset maxMsgNums!:int:count "
        "sysFlag!:int:pullflag commitOffset!:long:offset suspendTimeoutMillis!:long:suspend "
        "subscription:str:expression subVersion!:long:version expressionType:str:exprtype")
QUEUE = "topic!:str:topic queueId!:int:queue"
BROKER = "brokerName!:str:broker brokerAddr!:str:addr clusterName!:str:cluster brokerId!:long:brokerid"
REPLY = dict(topic="replytopic", properties="replyproperties")

ROWS = [
    row(10, "SEND_MESSAGE", "b", 6, SEND, "message"),
    row(310, "SEND_MESSAGE_V2", "b", 10, short(SEND), "message"),
    row(320, "SEND_BATCH_MESSAGE", "b", 6, short(SEND, batch="true", properties="wait"), "batch"),
    row(11, "PULL_MESSAGE", "b", 12, PULL),
    row(12, "QUERY_MESSAGE", "b", 3, "topic!:str:topic key!:str:key maxNum!:int:count beginTimestamp!:long:begin "
        "endTimestamp!:long:end _UNIQUE_KEY_QUERY:bool:false"),
    row(14, "QUERY_CONSUMER_OFFSET", "b", 4, "consumerGroup!:str:group " + QUEUE),
    row(15, "UPDATE_CONSUMER_OFFSET", "b", 4, "consumerGroup!:str:group " + QUEUE + " commitOffset!:long:offset"),
    row(17, "UPDATE_AND_CREATE_TOPIC", "b", 5, "topic!:str:newtopic defaultTopic!:str:template "
        "readQueueNums!:int:queues writeQueueNums!:int:queues perm!:int:perm topicFilterType!:str:filtertype "
        "topicSysFlag:int:topicflag order!:bool:false"),
    row(21, "GET_ALL_TOPIC_CONFIG", "b", 1, values="rows"),
    row(25, "UPDATE_BROKER_CONFIG", "b", 2, body="properties"),
    row(26, "GET_BROKER_CONFIG", "b", 1, text="names"),
    row(28, "GET_BROKER_RUNTIME_INFO", "b", 1, text="members"),
    row(29, "SEARCH_OFFSET_BY_TIMESTAMP", "b", 3, QUEUE + " timestamp!:long:timestamp"),
    row(30, "GET_MAX_OFFSET", "b", 3, QUEUE),
    row(31, "GET_MIN_OFFSET", "b", 3, QUEUE),
    row(32, "GET_EARLIEST_MSG_STORETIME", "b", 3, QUEUE),
    row(33, "VIEW_MESSAGE_BY_ID", "b", 3, "offset!:long:physical"),
    row(34, "HEART_BEAT", "b", 5, body="heartbeat"),
    row(35, "UNREGISTER_CLIENT", "b", 3, "clientID!:str:leaver producerGroup:str:producer consumerGroup:str:group"),
    row(36, "CONSUMER_SEND_MSG_BACK", "b", 4, "offset!:long:physical group!:str:group delayLevel!:int:level "
        "originMsgId:str:msgid originTopic:str:topic unitMode:bool:false "
        "maxReconsumeTimes:int:times"),
    row(37, "END_TRANSACTION", "b", 5, "producerGroup!:str:txgroup tranStateTableOffset!:long:halfqueue "
        "commitLogOffset!:long:halfphysical commitOrRollback!:int:commit fromTransactionCheck:bool:false "
        "msgId!:str:msgid transactionId:str:msgid"),
    row(38, "GET_CONSUMER_LIST_BY_GROUP", "b", 2, "consumerGroup!:str:group"),
    row(41, "LOCK_BATCH_MQ", "b", 3, body="lock", values="all"),
    row(42, "UNLOCK_BATCH_MQ", "b", 2, body="lock"),
    row(43, "GET_ALL_CONSUMER_OFFSET", "b", 1),
    row(45, "GET_ALL_DELAY_OFFSET", "b", 1),
    row(46, "CHECK_CLIENT_CONFIG", "b", 3, body="clientconfig"),
    row(200, "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP", "b", 4, body="group"),
    row(201, "GET_ALL_SUBSCRIPTIONGROUP_CONFIG", "b", 1, values="rows"),
    row(202, "GET_TOPIC_STATS_INFO", "b", 2, "topic!:str:topic"),
    row(203, "GET_CONSUMER_CONNECTION_LIST", "b", 2, "consumerGroup!:str:group"),
    row(204, "GET_PRODUCER_CONNECTION_LIST", "b", 2, "producerGroup!:str:producer"),
    row(207, "DELETE_SUBSCRIPTIONGROUP", "b", 3, "groupName!:str:oldgroup removeOffset:bool:false"),
    row(208, "GET_CONSUME_STATS", "b", 3, "consumerGroup!:str:group topic:str:topic"),
    row(215, "DELETE_TOPIC_IN_BROKER", "b", 3, "topic!:str:oldtopic"),
    row(222, "INVOKE_BROKER_TO_RESET_OFFSET", "b", 3, "topic!:str:topic group!:str:group timestamp!:long:timestamp "
        "isForce!:bool:false", callback=220),
    row(223, "INVOKE_BROKER_TO_GET_CONSUMER_STATUS", "b", 3, "topic!:str:topic group!:str:group "
        "clientAddr:str:client", callback=221),
    row(300, "QUERY_TOPIC_CONSUME_BY_WHO", "b", 2, "topic!:str:topic"),
    row(303, "QUERY_CONSUME_TIME_SPAN", "b", 3, "topic!:str:topic group!:str:group"),
    row(305, "GET_SYSTEM_TOPIC_LIST_FROM_BROKER", "b", 1, values="all"),
    row(306, "CLEAN_EXPIRED_CONSUMEQUEUE", "b", 1),
    row(307, "GET_CONSUMER_RUNNING_INFO", "b", 3, "consumerGroup!:str:group clientId!:str:client "
        "jstackEnable:bool:false", callback=307),
    row(308, "QUERY_CORRECTION_OFFSET", "b", 2, "filterGroups:str:groups compareGroup!:str:group topic!:str:topic"),
    row(309, "CONSUME_MESSAGE_DIRECTLY", "b", 3, "consumerGroup!:str:group clientId:str:client msgId:str:offsetid "
        "brokerName:str:broker", callback=309),
    row(314, "CLONE_GROUP_OFFSET", "b", 2, "srcGroup!:str:group destGroup!:str:newgroup topic:str:topic "
        "offline:bool:false"),
    row(315, "VIEW_BROKER_STATS_DATA", "b", 2, "statsName!:str:stats statsKey!:str:statskey"),
    row(316, "CLEAN_UNUSED_TOPIC", "b", 1),
    row(317, "GET_BROKER_CONSUME_STATS", "b", 1, "isOrder!:bool:false"),
    row(321, "QUERY_CONSUME_QUEUE", "b", 3, "topic:str:topic queueId:int:queue index:long:offset count:int:count "
        "consumerGroup:str:group"),
    row(323, "RESUME_CHECK_HALF_MESSAGE", "b", 2, "msgId:str:offsetid"),
    row(324, "SEND_REPLY_MESSAGE", "b", 3, SEND.replace(":topic ", ":replytopic ").replace(
        ":properties ", ":replyproperties "), "message", callback=326),
    row(325, "SEND_REPLY_MESSAGE_V2", "b", 3, short(SEND, **REPLY), "message", callback=326),

    row(100, "PUT_KV_CONFIG", "n", 3, "namespace!:str:namespace key!:str:kvkey value!:str:kvvalue"),
    row(101, "GET_KV_CONFIG", "n", 3, "namespace!:str:namespace key!:str:kvkey"),
    row(102, "DELETE_KV_CONFIG", "n", 2, "namespace!:str:namespace key!:str:kvkey"),
    row(103, "REGISTER_BROKER", "n", 5, BROKER + " haServerAddr!:str:addr compressed:bool:false bodyCrc32:int:crc",
        "register"),
    row(104, "UNREGISTER_BROKER", "n", 2, BROKER),
    row(105, "GET_ROUTEINFO_BY_TOPIC", "n", 5, "topic!:str:routetopic"),
    row(106, "GET_BROKER_CLUSTER_INFO", "n", 1, values="all"),
    row(205, "WIPE_WRITE_PERM_OF_BROKER", "n", 2, "brokerName!:str:broker"),
    row(206, "GET_ALL_TOPIC_LIST_FROM_NAMESERVER", "n", 1),
    row(216, "DELETE_TOPIC_IN_NAMESRV", "n", 2, "topic!:str:oldroute"),
    row(219, "GET_KVLIST_BY_NAMESPACE", "n", 2, "namespace!:str:namespace", values="all"),
    row(224, "GET_TOPICS_BY_CLUSTER", "n", 2, "cluster!:str:cluster"),
    row(304, "GET_SYSTEM_TOPIC_LIST_FROM_NS", "n", 1),
    row(311, "GET_UNIT_TOPIC_LIST", "n", 1),
    row(312, "GET_HAS_UNIT_SUB_TOPIC_LIST", "n", 1),
    row(313, "GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST", "n", 1),
    row(318, "UPDATE_NAMESRV_CONFIG", "n", 2, body="properties"),
    row(319, "GET_NAMESRV_CONFIG", "n", 1, text="names"),
    row(322, "QUERY_DATA_VERSION", "n", 2, BROKER, "dataversion"),
    row(327, "ADD_WRITE_PERM_OF_BROKER", "n", 2, "brokerName!:str:broker"),

    # What no 4.9.3 server knows, and what is sent to clients only.
    row(-1, "UNKNOWN_CODE", "b", 3, unknown=[0, 1, 13, 22, 23, 27, 39, 40, 209, 214, 220, 221, 302, 326, 400, 900, 200050, -5]),
    row(-2, "UNKNOWN_CODE_NAMESRV", "n", 1, unknown=[0, 10, 34, 207, 901, -5]),
    # Frames and headers that are not as they should be.
    row(-3, "ODD_FRAME", "b", 3, odd=True),
    row(-4, "ODD_FRAME_NAMESRV", "n", 1, odd=True),
]
