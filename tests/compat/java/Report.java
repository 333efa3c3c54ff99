package compat;

import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

/** Runs checks one after another and prints one line for each. */
final class Report {
    interface Check {
        /** Returns the figures to print; throws when something is not as expected. */
        String run() throws Exception;
    }

    private static final long LIMIT_SECONDS = 90;
    private final String prefix;
    private final String only;

    Report(String prefix, String only) {
        this.prefix = prefix;
        this.only = only;
    }

    /** False also when `--only` leaves it out. */
    boolean check(String name, Check body) throws InterruptedException {
        String full = prefix + "-" + name;
        if (!only.isEmpty() && !full.startsWith(only)) {
            return false;
        }
        AtomicReference<String> figures = new AtomicReference<>();
        AtomicReference<Throwable> wrong = new AtomicReference<>();
        long begun = System.nanoTime();
        Thread thread = new Thread(() -> {
            try {
                figures.set(body.run());
            } catch (Throwable error) {
                wrong.set(error);
            }
        }, full);
        thread.setDaemon(true);
        thread.start();
        thread.join(TimeUnit.SECONDS.toMillis(LIMIT_SECONDS));
        long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begun);
        if (figures.get() != null) {
            System.out.println("ok " + full + ": " + figures.get() + " (" + millis + " ms)");
            return true;
        }
        Throwable error = wrong.get();
        if (error == null) {
            error = new AssertionError("expected an end within " + LIMIT_SECONDS + " s, got none");
            error.setStackTrace(thread.getStackTrace());
        }
        System.err.println("---- FAIL " + full);
        error.printStackTrace();
        System.out.println("FAIL " + full + ": " + oneLine(error));
        return false;
    }

    private static String oneLine(Throwable error) {
        String text = error instanceof AssertionError ? error.getMessage() : "expected success, got " + error;
        for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
            text += " <- " + cause;
        }
        text = String.valueOf(text).replaceAll("\\s+", " ");
        return text.length() > 600 ? text.substring(0, 600) + "..." : text;
    }

    static void equal(Object expected, Object got, String what) {
        if (!String.valueOf(expected).equals(String.valueOf(got))) {
            throw new AssertionError(what + ": expected " + expected + ", got " + got);
        }
    }

    static void that(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** Asks again every 20 ms. Returns the milliseconds it took. */
    static long await(String what, long seconds, Condition condition) throws Exception {
        long begun = System.nanoTime();
        while (!condition.holds()) {
            if (System.nanoTime() - begun > TimeUnit.SECONDS.toNanos(seconds)) {
                throw new AssertionError("expected within " + seconds + " s: " + what);
            }
            Thread.sleep(20);
        }
        return TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begun);
    }

    /** Compares two sets of messages (id to content) and says what is missing, new or different. */
    static void same(Map<String, String> expected, Map<String, String> got, String what) {
        int missing = 0;
        int different = 0;
        String example = "";
        for (Map.Entry<String, String> want : expected.entrySet()) {
            String content = got.get(want.getKey());
            if (content == null) {
                missing++;
                example = " e.g. missing " + want.getKey();
            } else if (!content.equals(want.getValue())) {
                different++;
                example = " e.g. " + want.getKey() + ": " + cut(want.getValue()) + " became " + cut(content);
            }
        }
        Map<String, String> surplus = new TreeMap<>(got);
        surplus.keySet().removeAll(expected.keySet());
        if (missing + different + surplus.size() > 0) {
            throw new AssertionError(what + ": expected " + expected.size() + " messages, got " + got.size()
                + ": " + missing + " missing, " + different + " different, " + surplus.size() + " unexpected" + example);
        }
    }

    private static String cut(String text) {
        return text.length() > 60 ? text.substring(0, 60) + "..." : text;
    }
}
