package compat;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;

/** differences.txt: what may differ, and which commands are left out, each with its reason. */
final class Listed {
    static final class Entry {
        final String command;
        final String pattern;
        final String reason;
        private final Pattern compiled;
        boolean isUsed;

        /** `*` is anything, `<a, b>` one of the words. */
        private static String expression(String pattern) {
            StringBuilder out = new StringBuilder();
            for (String part : pattern.split("(?=[*<>])|(?<=[*<>])")) {
                boolean isOpen = out.lastIndexOf("(?:") > out.lastIndexOf(")");
                switch (part) {
                    case "*": out.append(".*"); break;
                    case "<": out.append("(?:"); break;
                    case ">": out.append(")"); break;
                    default: out.append(isOpen ? part.replace(", ", "|") : Pattern.quote(part));
                }
            }
            return out.toString();
        }

        Entry(String command, String pattern, String reason) {
            this.command = command;
            this.pattern = pattern;
            this.reason = reason;
            this.compiled = Pattern.compile(expression(pattern));
        }
    }

    final List<Entry> entries = new ArrayList<>();
    final Map<String, String> leftOut = new TreeMap<>();

    Listed(Path file) throws Exception {
        for (String line : Files.readAllLines(file)) {
            if (line.isBlank() || line.startsWith("#")) {
                continue;
            }
            String[] parts = line.split(" \\| ");
            if (parts.length == 2 && parts[0].startsWith("left out: ")) {
                leftOut.put(parts[0].substring(10), parts[1]);
            } else if (parts.length == 3 && !parts[2].isBlank()) {
                entries.add(new Entry(parts[0], parts[1], parts[2]));
            } else {
                throw new IllegalArgumentException(file + ": expected COMMAND | PATTERN | REASON, got " + line);
            }
        }
    }

    /** The entry that allows a difference, or null. Every entry that fits counts as needed. */
    Entry find(String command, String difference) {
        Entry found = null;
        for (Entry entry : entries) {
            if (entry.command.equals(command) && entry.compiled.matcher(difference).matches()) {
                entry.isUsed = true;
                found = found == null ? entry : found;
            }
        }
        return found;
    }
}
