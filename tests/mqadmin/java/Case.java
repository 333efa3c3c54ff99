package compat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** One line of cases.txt and what came of it on both sides. */
final class Case {
    final String line;
    final String command;
    private final boolean isLoose;
    private final long limitMillis;
    private final long pauseMillis;
    String java = "";
    String ours = "";
    /** `outcome: A, ours B`, `java: LINE` (only Java prints it), `ours: LINE`; the entry that allows it, or null. */
    final Map<String, Listed.Entry> differences = new LinkedHashMap<>();

    private Case(String text) {
        isLoose = text.contains(" @loose");
        limitMillis = option(text, "limit", 30_000);
        pauseMillis = option(text, "pause", 0);
        line = text.replaceAll(" @.*", "").trim();
        command = line.split(" ")[0];
    }

    private static long option(String text, String name, long other) {
        int at = text.indexOf(" @" + name + "=");
        return at < 0 ? other : Long.parseLong(text.substring(at + name.length() + 3).split(" ")[0]);
    }

    static List<Case> read(Path file) throws Exception {
        return Files.readAllLines(file).stream().filter(line -> !line.isBlank() && !line.startsWith("#"))
            .map(Case::new).collect(Collectors.toList());
    }

    void run(Target reference, Target tested, Listed listed) throws Exception {
        Thread.sleep(pauseMillis);
        Mqadmin.Result left = run(reference);
        Mqadmin.Result right = run(tested);
        java = Normal.outcome(left);
        ours = Normal.outcome(right);
        List<String> found = new ArrayList<>();
        if (!java.equals(ours)) {
            found.add("outcome: " + java + ", ours " + ours);
        }
        Set<String> expected = Normal.lines(left.printed, reference, isLoose);
        Set<String> got = Normal.lines(right.printed, tested, isLoose);
        expected.stream().filter(text -> !got.contains(text)).forEach(text -> found.add("java: " + text));
        got.stream().filter(text -> !expected.contains(text)).forEach(text -> found.add("ours: " + text));
        found.forEach(difference -> differences.put(difference, listed.find(command, difference)));
    }

    /** Files that the command wrote below `$OUT` count as printed. */
    private Mqadmin.Result run(Target target) throws Exception {
        Mqadmin.Result result = Mqadmin.run(target.put(line), target.names.get("NS"), limitMillis);
        StringBuilder printed = new StringBuilder(result.printed);
        Path out = Path.of(target.names.get("OUT"));
        if (Files.exists(out)) {
            try (Stream<Path> files = Files.walk(out)) {
                for (Path file : files.filter(Files::isRegularFile).sorted().collect(Collectors.toList())) {
                    printed.append("\nfile ").append(file.getFileName()).append('\n').append(Files.readString(file));
                    Files.delete(file);
                }
            }
        }
        Files.writeString(target.home.resolve("printed.log"), "### " + line + " -> " + result.end + "\n" + printed + "\n",
            StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        return new Mqadmin.Result(result.end, printed.toString());
    }

    boolean isAllowed() {
        return !differences.containsValue(null);
    }

    /** `same`, the reasons, or DIFFERS. */
    String verdict() {
        if (differences.isEmpty()) {
            return "same";
        }
        return isAllowed() ? differences.values().stream().map(entry -> entry.reason).distinct().collect(Collectors.joining("; "))
            : "DIFFERS";
    }
}
