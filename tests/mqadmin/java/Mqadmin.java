package compat;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.rocketmq.tools.command.MQAdminStartup;
import org.apache.rocketmq.tools.command.SubCommand;

/** Runs mqadmin's own main in this process, as often as one likes, and keeps what it prints. */
final class Mqadmin {
    private static final String THREAD = "mqadmin";
    private static final Pattern WORD = Pattern.compile("'([^']*)'|(\\S+)");

    /** Ends the command, not this process. An Exception would be caught and printed by mqadmin. */
    private static final class Exit extends Error {
        final int code;

        Exit(int code) {
            this.code = code;
        }
    }

    @SuppressWarnings("removal")
    static void catchExit() {
        System.setSecurityManager(new SecurityManager() {
            @Override
            public void checkPermission(java.security.Permission permission) {
            }

            @Override
            public void checkExit(int code) {
                if (Thread.currentThread().getName().equals(THREAD)) {
                    throw new Exit(code);
                }
            }
        });
    }

    /** What came of one command: `end` is `0`, `exit N`, `runs on` (not back within the limit) or the name of an error. */
    static final class Result {
        final String end;
        final String printed;

        Result(String end, String printed) {
            this.end = end;
            this.printed = printed;
        }
    }

    @SuppressWarnings({"removal", "deprecation"})
    static Result run(String line, String nameServer, long limitMillis) throws Exception {
        List<String> words = new ArrayList<>();
        Matcher matcher = WORD.matcher(line);
        while (matcher.find()) {
            words.add(matcher.group(1) != null ? matcher.group(1) : matcher.group(2));
        }
        words.add("-n");
        words.add(nameServer);
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream printer = new PrintStream(bytes, true, "UTF-8");
        PrintStream out = System.out;
        PrintStream err = System.err;
        String[] end = {"runs on"};
        clear();
        System.setOut(printer);
        System.setErr(printer);
        try {
            Thread thread = new Thread(() -> {
                try {
                    MQAdminStartup.main0(words.toArray(new String[0]), null);
                    end[0] = "0";
                } catch (Exit exit) {
                    end[0] = "exit " + exit.code;
                } catch (Throwable error) {
                    end[0] = error.getClass().getSimpleName();
                }
            }, THREAD);
            thread.setDaemon(true);
            thread.start();
            thread.join(limitMillis);
            String ended = end[0];
            String printed = bytes.toString(StandardCharsets.UTF_8);
            if (thread.isAlive()) {
                thread.stop();
                thread.join(3000);
            }
            return new Result(ended, printed);
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
    }

    /** All commands of mqadmin's help. */
    static Set<String> commands() throws Exception {
        clear();
        MQAdminStartup.initCommand();
        Set<String> names = new TreeSet<>();
        for (Object command : list()) {
            names.add(((SubCommand) command).commandName());
        }
        return names;
    }

    /** mqadmin's list of commands is static and grows with each call. */
    private static void clear() throws Exception {
        list().clear();
    }

    private static List<?> list() throws Exception {
        Field field = MQAdminStartup.class.getDeclaredField("subCommandList");
        field.setAccessible(true);
        return (List<?>) field.get(null);
    }
}
