package compat;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** Starts and stops servers through servers.sh, each in a directory of its own under the run directory. */
final class Servers {
    final String kind;
    final Path here;
    final Path run;
    private final Map<String, String> environment;

    Servers(String kind, Path here, Path run) {
        this(kind, here, run, Map.of());
    }

    /** `environment` is added to that of each server. */
    Servers(String kind, Path here, Path run, Map<String, String> environment) {
        this.kind = kind;
        this.here = here;
        this.run = run;
        this.environment = environment;
    }

    Path dir(String name) {
        return run.resolve(name);
    }

    List<Integer> ports(int count) throws Exception {
        List<Integer> found = new ArrayList<>();
        for (String line : script("ports", String.valueOf(count)).trim().split("\\s+")) {
            found.add(Integer.valueOf(line));
        }
        return found;
    }

    /** Returns its address. */
    String nameServer(String name, int port) throws Exception {
        script("namesrv", kind, String.valueOf(port), dir(name).toString());
        return "127.0.0.1:" + port;
    }

    /** Writes a configuration into the server's directory and returns its path. */
    Path conf(String name, String brokerName, int port, String nameServers, String... more) throws Exception {
        List<String> args = new ArrayList<>(Arrays.asList(
            "conf", brokerName, "0", String.valueOf(port), nameServers, dir(name).toString(),
            "mappedFileSizeCommitLog=67108864",
            "waitTimeMillsInSendQueue=10000")); // on a busy machine Java refuses sends after 200 ms
        args.addAll(Arrays.asList(more));
        script(args.toArray(new String[0]));
        return dir(name).resolve("broker.conf");
    }

    /** Returns what the launcher printed. */
    String broker(Path conf, String name) throws Exception {
        return broker(kind, conf, name);
    }

    String broker(String kind, Path conf, String name) throws Exception {
        return script("broker", kind, conf.toString(), dir(name).toString());
    }

    void stop(String name) throws Exception {
        script("stop", dir(name).toString());
        Path exit = dir(name).resolve("exit");
        if (Files.exists(exit)) {
            Report.equal("0", Files.readString(exit).trim(), "exit code of " + name + " after SIGTERM");
        }
    }

    void kill(String name) throws Exception {
        script("kill", dir(name).toString());
    }

    String output(String name) throws Exception {
        return Files.readString(dir(name).resolve("stdout.log"));
    }

    String script(String... args) throws Exception {
        List<String> line = new ArrayList<>(Arrays.asList("bash", here.resolve("servers.sh").toString()));
        line.addAll(Arrays.asList(args));
        return command(environment, line.toArray(new String[0]));
    }

    static String command(String... line) throws Exception {
        return command(Map.of(), line);
    }

    /** Runs a command to its end; a failure carries all it printed. */
    private static String command(Map<String, String> environment, String... line) throws Exception {
        File out = File.createTempFile("command", ".out");
        try {
            ProcessBuilder builder = new ProcessBuilder(line).redirectErrorStream(true).redirectOutput(out);
            builder.environment().putAll(environment);
            Process process = builder.start();
            process.getOutputStream().close();
            int code = process.waitFor();
            String text = new String(Files.readAllBytes(out.toPath()), StandardCharsets.UTF_8);
            Report.that(code == 0, String.join(" ", line) + ": expected exit code 0, got " + code + ": " + text);
            return text;
        } finally {
            out.delete();
        }
    }
}
