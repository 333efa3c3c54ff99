package compat;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** Everything that needs one name server and one broker and stops neither. */
final class WireSuite {
    static void run(Servers servers, Report report, String prefix) throws Exception {
        List<Integer> ports = servers.ports(2);
        String nameServer = servers.nameServer(prefix + "-ns", ports.get(0));
        String name = "broker-" + prefix;
        Path conf = servers.conf(prefix + "-broker", name, ports.get(1), nameServer, DelayChecks.LEVELS,
            TransactionChecks.TIMEOUT, TransactionChecks.INTERVAL);
        servers.broker(conf, prefix + "-broker");
        try (Session session = new Session(nameServer)) {
            Map<String, String> brokers = session.brokers(nameServer, 1);
            Report.equal("127.0.0.1:" + ports.get(1), brokers.get(name), "address in the cluster info");
            Cluster cluster = new Cluster(session, nameServer, brokers.get(name), name, conf, servers.kind.equals("java"));
            SendChecks.run(cluster, report);
            ReadChecks.run(cluster, report);
            QueryChecks.run(cluster, report);
            PushChecks.run(cluster, report);
            FilterChecks.run(cluster, report);
            DelayChecks.run(cluster, report);
            TransactionChecks.run(cluster, report);
            AdminChecks.run(cluster, report);
            ReplyChecks.run(cluster, report);
            ChapterChecks.run(cluster, report);
        }
        servers.stop(prefix + "-broker");
        servers.stop(prefix + "-ns");
    }

    /** One broker and the connections to it. */
    static final class Cluster {
        final Session session;
        final String nameServer;
        final String broker;
        final String brokerName;
        final Path conf;
        final boolean isJava;

        Cluster(Session session, String nameServer, String broker, String brokerName, Path conf, boolean isJava) {
            this.session = session;
            this.nameServer = nameServer;
            this.broker = broker;
            this.brokerName = brokerName;
            this.conf = conf;
            this.isJava = isJava;
        }

        String topic(String topic, int queues) throws Exception {
            session.topic(topic, queues, broker, brokerName);
            return topic;
        }
    }
}
