package compat;

import java.nio.file.Path;

/** HaMain HERE RUN [ONLY]: masters and slaves, each Hotfire's or Java's, in all four pairings. */
public final class HaMain {
    private static final String[] KINDS = {"hotfire", "java"};

    private HaMain() {
    }

    public static void main(String[] args) throws Exception {
        Servers servers = new Servers("hotfire", Path.of(args[0]), Path.of(args[1]));
        String only = args.length > 2 ? args[2] : "";
        for (String master : KINDS) {
            for (String slave : KINDS) {
                String name = master + "-" + slave;
                if (only.isEmpty() || ("ha-" + name).startsWith(only) || only.startsWith("ha-" + name)) {
                    try {
                        pairing(servers, new Report("ha-" + name, only), name, master, slave);
                    } catch (Throwable error) {
                        error.printStackTrace();
                        System.out.println("FAIL ha-" + name + "-setup: " + String.valueOf(error).replaceAll("\\s+", " "));
                    }
                }
            }
        }
        System.out.println("note done");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    /** The name says who is the master, then who is the slave. */
    private static void pairing(Servers servers, Report report, String name, String master, String slave) throws Exception {
        try (Pair pair = new Pair(servers, name, master, slave, "SYNC_MASTER", "ASYNC_FLUSH")) {
            report.check("fresh", () -> {
                pair.startMaster();
                pair.topic();
                pair.send(200);
                Report.that(pair.others.getOrDefault("SLAVE_NOT_AVAILABLE", 0) == 200, "200 SLAVE_NOT_AVAILABLE expected, got " + pair.others);
                pair.startSlave();
                pair.sendUntilOk();
                pair.send(400);
                return pair.same();
            });
            report.check("slave-killed", () -> {
                pair.killSlave();
                pair.send(40);
                pair.startSlave();
                pair.sendUntilOk();
                pair.send(400);
                return pair.same();
            });
            report.check("master-killed", () -> {
                pair.send(100);
                pair.killMaster();
                String kept = pair.ackedAreAtSlave();
                pair.startMaster();
                pair.sendUntilOk();
                pair.send(400);
                return kept + "; " + pair.same();
            });
            report.check("both-killed", () -> {
                pair.send(100);
                pair.killSlave();
                pair.killMaster();
                pair.startMaster();
                pair.startSlave();
                pair.sendUntilOk();
                pair.send(200);
                return pair.same();
            });
            report.check("read-from-slave", pair::readFromSlave);
            report.check("master-away", () -> {
                pair.stopMaster();
                return pair.consumeWithoutMaster();
            });
        }
    }
}
