package compat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;
import org.apache.rocketmq.common.protocol.RequestCode;
import org.apache.rocketmq.common.protocol.body.ClusterInfo;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;

/** MigrationMain HERE RUN [ONLY]: from a Java master to Hotfire under traffic, step by step as docs/OPERATING.md says. */
public final class MigrationMain {
    /** This group runs all the time; the other one stops with the Java master and starts after the promotion. */
    private static final String STAYS = "moved_stays";
    private static final String RESTARTS = "moved_restarts";

    private final Servers java;
    private final String name;
    private final String role;
    private final boolean killed;
    private final String brokerName;
    private final String nameServer;
    private final Session session;
    private final Path masterConf;
    private final Path hotfireConf;
    private final String hotfire;
    private Traffic traffic;

    private MigrationMain(Servers java, String name, String role, boolean killed) throws Exception {
        this.java = java;
        this.name = name;
        this.role = role;
        this.killed = killed;
        brokerName = "broker-" + name;
        List<Integer> ports = java.ports(3);
        nameServer = java.nameServer(name + "-ns", ports.get(0));
        session = new Session(nameServer);
        String[] both = {"mappedFileSizeCommitLog=1048576", "maxMessageSize=524288", "osPageCacheBusyTimeOutMills=10000"};
        masterConf = java.conf(name + "-java", brokerName, ports.get(1), nameServer, join(both, "brokerRole=" + role));
        hotfireConf = java.conf(name + "-hotfire", brokerName, ports.get(2), nameServer, join(both, "brokerRole=SLAVE", "brokerId=1"));
        hotfire = "127.0.0.1:" + ports.get(2);
    }

    public static void main(String[] args) throws Exception {
        Servers java = new Servers("java", Path.of(args[0]), Path.of(args[1]));
        String only = args.length > 2 ? args[2] : "";
        for (String name : new String[] {"async-stopped", "sync-killed"}) {
            if (!("migration-" + name).startsWith(only) && !only.startsWith("migration-" + name)) {
                continue;
            }
            try {
                boolean killed = name.equals("sync-killed");
                MigrationMain one = new MigrationMain(java, name, killed ? "SYNC_MASTER" : "ASYNC_MASTER", killed);
                one.run(new Report("migration-" + name, only));
            } catch (Throwable error) {
                error.printStackTrace();
                System.out.println("FAIL migration-" + name + "-setup: " + String.valueOf(error).replaceAll("\\s+", " "));
            }
        }
        System.out.println("note done");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static String[] join(String[] some, String... more) {
        String[] all = Arrays.copyOf(some, some.length + more.length);
        System.arraycopy(more, 0, all, some.length, more.length);
        return all;
    }

    private void run(Report report) throws Exception {
        traffic = new Traffic(session);
        boolean ok = report.check("traffic", this::begin)
            && report.check("slave", this::joinAsSlave)
            && report.check("promotion", this::promote)
            && report.check("nothing-lost", this::settle);
        traffic.close();
        session.close();
        for (String one : new String[] {"-java", "-hotfire", "-hotfire-2", "-ns"}) {
            if (ok && Files.exists(java.dir(name + one).resolve("pid"))) {
                java.kill(name + one);
            }
        }
    }

    /** What runs before anything is changed. */
    private String begin() throws Exception {
        java.broker("java", masterConf, name + "-java");
        Report.await("the master at the name server", 40, () -> address(0) != null);
        session.topic(Traffic.TOPIC, 4, address(0), brokerName);
        traffic.consume(STAYS);
        traffic.consume(RESTARTS);
        traffic.begin();
        Thread.sleep(6000);
        return traffic.acked.size() + " acked, " + traffic.others + ", " + logFiles() + " log files";
    }

    private int logFiles() throws Exception {
        try (var files = Files.list(java.dir(name + "-java").resolve("store/commitlog"))) {
            return (int) files.count();
        }
    }

    /** Steps 1 and 2. */
    private String joinAsSlave() throws Exception {
        long begun = System.nanoTime();
        java.broker("hotfire", hotfireConf, name + "-hotfire");
        Report.await("the slave at the name server", 40, () -> address(1) != null);
        Report.await("0 bytes behind", 60, () -> {
            String status = haStatus();
            return status.contains("\"isConnected\": true") && status.contains("\"behindBytes\": 0");
        });
        long millis = (System.nanoTime() - begun) / 1_000_000;
        TreeSet<String> older = new TreeSet<>(traffic.acked);
        Report.await("what is older has been consumed", 60,
            () -> traffic.missing(STAYS, older).isEmpty() && traffic.missing(RESTARTS, older).isEmpty());
        Thread.sleep(12_000); // topics, groups and offsets follow a Java master every 10 s
        return "0 bytes behind after " + millis + " ms; " + traffic.acked.size() + " acked, " + traffic.others;
    }

    private String haStatus() throws Exception {
        return Servers.command(System.getenv("HOTFIRE"), "admin", "haStatus", "--json", "-b", hotfire);
    }

    /** Steps 3 and 4. */
    private String promote() throws Exception {
        traffic.endConsumer(RESTARTS);
        traffic.forgetGaps();
        int before = traffic.acked.size();
        int seen = traffic.seen.get(STAYS).size();
        long begun = System.nanoTime();
        // The launcher looks whether it is gone more rarely than we want to know.
        long pid = Long.parseLong(Files.readString(java.dir(name + "-java").resolve("pid")).trim());
        ProcessHandle process = ProcessHandle.of(pid).orElseThrow();
        Report.that(killed ? process.destroyForcibly() : process.destroy(), "the signal to the Java master");
        Report.await("the Java master is gone", 40, () -> !process.isAlive());
        long stopped = System.nanoTime();
        Report.await("the slave has taken what it was sent", 20, () -> !haStatus().contains("\"isConnected\": true"));
        int without = traffic.acked.size();
        new Servers("hotfire", java.here, java.run).stop(name + "-hotfire");
        String conf = Files.readString(hotfireConf).replace("brokerRole=SLAVE", "brokerRole=ASYNC_MASTER")
            .replaceAll("(?m)^brokerId=1$", "brokerId=0");
        Files.writeString(hotfireConf, conf);
        java.broker("hotfire", hotfireConf, name + "-hotfire-2");
        Report.await("the new master at the name server", 40, () -> hotfire.equals(address(0)));
        long promoted = System.nanoTime();
        Report.await("producers go on", 60, () -> traffic.acked.size() > without);
        Thread.sleep(3000);
        traffic.consume(RESTARTS);
        return "the Java master was gone after " + (stopped - begun) / 1_000_000 + " ms, Hotfire was master after "
            + (promoted - begun) / 1_000_000 + " ms; producers had no answer for " + traffic.longestGapMillis() + " ms; "
            + (traffic.acked.size() - before) + " acked and " + (traffic.seen.get(STAYS).size() - seen) + " consumed since";
    }

    private String settle() throws Exception {
        Thread.sleep(3000);
        traffic.endProducers();
        for (String group : new String[] {STAYS, RESTARTS}) {
            try {
                Report.await("all consumed", 60, () -> traffic.missing(group, traffic.acked).isEmpty());
            } catch (AssertionError late) {
                TreeSet<String> lost = new TreeSet<>(traffic.missing(group, traffic.acked));
                throw new AssertionError(lost.size() + " of " + traffic.acked.size() + " acked were never consumed by " + group
                    + ", e.g. " + lost.first() + " to " + lost.last());
            }
        }
        return traffic.acked.size() + " acked, 0 lost; nothing was consumed for " + traffic.longestSilenceMillis() + " ms; more than once: " + traffic.again(STAYS) + " at the group that stayed, "
            + traffic.again(RESTARTS) + " at the one that restarted; other answers " + traffic.others;
    }

    private String address(long id) throws Exception {
        RemotingCommand answer = session.ask(nameServer, RequestCode.GET_BROKER_CLUSTER_INFO, null, null);
        ClusterInfo info = RemotingSerializable.decode(answer.getBody(), ClusterInfo.class);
        return info.getBrokerAddrTable().containsKey(brokerName)
            ? info.getBrokerAddrTable().get(brokerName).getBrokerAddrs().get(id) : null;
    }
}
