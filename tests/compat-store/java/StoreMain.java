package compat;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** StoreMain HERE RUN [ONLY] [full]: store directories pass between the real Java broker and Hotfire. */
public final class StoreMain {
    /** Several small files of each kind: 1 MiB of log, 50 queue entries, 399 index entries. */
    private static final String[] SMALL = {
        "mappedFileSizeCommitLog=1048576", "maxMessageSize=524288", "mappedFileSizeConsumeQueue=1000",
        "maxHashSlotNum=100", "maxIndexNum=400", "osPageCacheBusyTimeOutMills=10000", "flushConsumerOffsetInterval=1000"};
    private static final String[] FULL = {
        "mappedFileSizeCommitLog=1073741824", "mappedFileSizeConsumeQueue=6000000", "maxHashSlotNum=5000000", "maxIndexNum=20000000",
        "osPageCacheBusyTimeOutMills=10000"};
    private final Servers servers;
    private final String only;

    private StoreMain(Servers servers, String only) {
        this.servers = servers;
        this.only = only;
    }

    public static void main(String[] args) throws Exception {
        Servers servers = new Servers("hotfire", Path.of(args[0]), Path.of(args[1]));
        StoreMain all = new StoreMain(servers, args.length > 2 ? args[2] : "");
        List<Thread> threads = new ArrayList<>();
        if (args.length > 3 && args[3].equals("full")) {
            threads.add(all.thread("full", report -> all.chain(report, "full", false, false, FULL)));
        } else {
            threads.add(all.thread("clean", report -> all.chain(report, "clean", false, false, SMALL)));
            threads.add(all.thread("killed", report -> all.chain(report, "killed", true, false, SMALL)));
            threads.add(all.thread("bare", report -> all.chain(report, "bare", true, true, SMALL)));
            threads.add(all.thread("rebuilt", all::rebuilt));
            threads.add(all.thread("paths", all::paths));
            threads.add(all.thread("zones", all::zones));
            threads.add(all.thread("timed", report -> all.timed(report, false)));
            threads.add(all.thread("timed-killed", report -> all.timed(report, true)));
            threads.add(all.thread("transactions", report -> all.transactions(report, "java", "hotfire")));
            threads.add(all.thread("transactions-back", report -> all.transactions(report, "hotfire", "java")));
        }
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println("note done");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private interface Story {
        void tell(Report report) throws Exception;
    }

    private Thread thread(String name, Story story) {
        Thread thread = new Thread(() -> {
            try {
                story.tell(new Report("exchange-" + name, only));
            } catch (Throwable error) {
                error.printStackTrace();
                System.out.println("FAIL exchange-" + name + "-setup: " + String.valueOf(error).replaceAll("\\s+", " "));
            }
        }, name);
        thread.start();
        return thread;
    }

    /** Java, Hotfire, Java, Hotfire on one directory; each serves what all before it wrote, and adds to it. */
    private void chain(Report report, String name, boolean kill, boolean bare, String... settings) throws Exception {
        if (skips(name)) {
            return;
        }
        try (Exchange exchange = new Exchange(servers, name, settings)) {
            String[] kinds = {"java", "hotfire", "java", "hotfire"};
            boolean held = true;
            for (int at = 0; at < kinds.length && held; at++) {
                String kind = kinds[at];
                boolean first = at == 0;
                boolean last = at == kinds.length - 1;
                String round = "r" + at;
                // A killed Java broker throws index files away at its next start (W-35); Hotfire must find every key.
                boolean whole = kind.equals("hotfire") || !kill;
                held = report.check(at + "-" + kind, () -> {
                    exchange.start(kind);
                    return first ? "started on nothing" : exchange.verify();
                });
                if (held && !first) {
                    report.check(at + "-" + kind + "-keys", () -> exchange.verifyKeys(whole));
                }
                held = held && report.check(at + "-" + kind + (last ? "-end" : "-writes"), () -> {
                    String figures = last ? "" : exchange.write(round) + ", ";
                    exchange.end(kill);
                    if (bare && kind.equals("hotfire")) {
                        exchange.remove("hotfire");
                    }
                    return figures + (kill ? "kill -9" : "stopped") + (bare ? ", hotfire/ deleted" : "") + "; files " + exchange.files();
                });
            }
            if (!held) {
                System.out.println("note exchange-" + name + ": the checks after the first failure did not run: they need its directory");
            }
        }
    }

    private boolean skips(String name) {
        return !only.isEmpty() && !("exchange-" + name).startsWith(only) && !only.startsWith("exchange-" + name);
    }

    /** A topic is deleted and made anew under Java, the queues are lost: Hotfire makes them from the log alone (W-29). */
    private void rebuilt(Report report) throws Exception {
        if (skips("rebuilt")) {
            return;
        }
        try (Exchange exchange = new Exchange(servers, "rebuilt", SMALL)) {
            report.check("java", () -> {
                exchange.start("java");
                String figures = exchange.write("r0");
                exchange.rewrite("Anew", "old", 120);
                exchange.deleteTopic("Anew");
                exchange.rewrite("Anew", "new", 30);
                exchange.end(true);
                exchange.remove("consumequeue");
                return figures + ", 120 in a topic that was deleted and 30 in the one made anew; kill -9, consumequeue/ deleted";
            });
            report.check("hotfire", () -> {
                exchange.start("hotfire");
                String figures = exchange.verify();
                exchange.rewrite("Anew", "more", 30);
                exchange.end(true);
                exchange.remove("hotfire");
                return figures + "; 30 more into that topic; kill -9, hotfire/ deleted";
            });
            report.check("hotfire-again", () -> {
                exchange.start("hotfire");
                String figures = exchange.verify();
                exchange.end(false);
                return figures;
            });
            report.check("java-again", () -> {
                exchange.start("java");
                String figures = exchange.verify();
                exchange.end(false);
                return figures;
            });
        }
    }

    /**
     * Messages wait for a time of their own while the directory is Java's, which delivers none of them. Java deletes the
     * queues of every topic without a configuration when any topic is deleted: theirs too.
     */
    private void timed(Report report, boolean kill) throws Exception {
        String name = kill ? "timed-killed" : "timed";
        if (skips(name)) {
            return;
        }
        try (Exchange exchange = new Exchange(servers, name, SMALL)) {
            boolean held = report.check("0-hotfire", () -> {
                exchange.start("hotfire");
                String figures = exchange.await("r0", 40, System.currentTimeMillis() + 8_000);
                exchange.end(kill);
                return figures + (kill ? "; kill -9" : "");
            });
            held = held && report.check("1-java", () -> {
                exchange.start("java");
                exchange.rewrite("Gone", "r1", 20);
                if (!kill) {
                    exchange.deleteTopic("Gone");
                    Report.that(!exchange.hasQueue("rmq_sys_wheel_timer", 0), "expected that Java deletes the queues of the timer topic");
                }
                exchange.rewrite("Plain", "r1", 20);
                exchange.end(kill);
                return kill ? "kill -9" : "a topic deleted, and with it the queues of what waits";
            });
            held = held && report.check("2-hotfire", () -> {
                exchange.start("hotfire");
                String figures = exchange.come(30);
                exchange.end(kill);
                return figures;
            });
            held = held && report.check("3-java-hotfire", () -> {
                exchange.start("java");
                exchange.end(kill);
                exchange.start("hotfire");
                Thread.sleep(2_000);
                return exchange.come(5);
            });
            if (!held) {
                System.out.println("note exchange-" + name + ": the checks after the first failure did not run");
            }
        }
    }

    /** One broker leaves transactions open; the other asks for them, and each ends once. */
    private void transactions(Report report, String first, String second) throws Exception {
        String name = first.equals("java") ? "transactions" : "transactions-back";
        if (skips(name)) {
            return;
        }
        List<String> settings = new ArrayList<>(List.of(SMALL));
        // 4.9.3 counts from when the client made the message, and opens one again that ends while it looks (W-64):
        // on a machine that stood still for 2 s it did.
        settings.add("transactionTimeOut=5000");
        settings.add("transactionCheckInterval=1500");
        try (Exchange exchange = new Exchange(servers, name, settings.toArray(new String[0]))) {
            boolean held = report.check("0-" + first, () -> {
                exchange.start(first);
                String figures = exchange.open("r0");
                Thread.sleep(4000); // some rounds of questions that nobody answers
                exchange.end(false);
                return figures;
            });
            held = held && report.check("1-" + second, () -> {
                exchange.start(second);
                String figures = exchange.settle("r1") + "; " + exchange.open("r1");
                exchange.end(false);
                return figures;
            });
            held = held && report.check("2-" + first, () -> {
                exchange.start(first);
                String figures = exchange.settle("r2");
                exchange.end(false);
                return figures;
            });
            if (!held) {
                System.out.println("note exchange-" + name + ": the checks after the first failure did not run");
            }
        }
    }

    /** The commit log lies in two directories. */
    private void paths(Report report) throws Exception {
        if (skips("paths")) {
            return;
        }
        List<String> settings = new ArrayList<>(List.of(SMALL));
        Path store = servers.dir("paths").resolve("store");
        settings.add("storePathCommitLog=" + store.resolve("commitlog") + "," + store.resolve("commitlog-b"));
        two(report, "paths", exchange -> { }, settings.toArray(new String[0]));
    }

    /** The brokers live in time zones whose clocks show other hours: index files are named by local time (W-37). */
    private void zones(Report report) throws Exception {
        if (skips("zones")) {
            return;
        }
        String[] zones = {"Asia/Shanghai", "America/Los_Angeles", "UTC"};
        int[] at = {0};
        two(report, "zones", exchange -> exchange.zone(zones[at[0]++]), SMALL);
    }

    private interface Before {
        void start(Exchange exchange);
    }

    /** Java, Hotfire and Java again, with kill -9. */
    private void two(Report report, String name, Before before, String... settings) throws Exception {
        try (Exchange exchange = new Exchange(servers, name, settings)) {
            String[] kinds = {"java", "hotfire", "java"};
            boolean held = true;
            for (int at = 0; at < kinds.length && held; at++) {
                String kind = kinds[at];
                boolean first = at == 0;
                String round = "r" + at;
                boolean last = at == kinds.length - 1;
                held = report.check(at + "-" + kind, () -> {
                    before.start(exchange);
                    exchange.start(kind);
                    String figures = first ? "started on nothing" : exchange.verify();
                    return last ? figures : figures + "; " + exchange.write(round);
                });
                if (held && kind.equals("hotfire")) {
                    report.check(at + "-hotfire-keys", () -> exchange.verifyKeys(true) + ", " + exchange.indexInOrder());
                }
                held = held && report.check(at + "-" + kind + "-end", () -> {
                    exchange.end(true);
                    return "kill -9; files " + exchange.files();
                });
            }
        }
    }
}
