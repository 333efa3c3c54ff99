package compat;

import java.util.List;
import java.util.Map;

/** The table, for a terminal and for docs/MQADMIN.md. */
final class MqadminPage {
    static String text(List<Case> cases, List<String> wrong) {
        StringBuilder text = new StringBuilder(String.format("%-72s %-28s %-28s %s%n", "command", "Java", "Hotfire", "same, or why not"));
        for (Case one : cases) {
            text.append(String.format("%-72s %-28s %-28s %s%n", one.line, one.java, one.ours, one.verdict()));
            one.differences.forEach((difference, entry) -> {
                if (entry == null) {
                    text.append("    ").append(difference).append('\n');
                }
            });
        }
        wrong.forEach(what -> text.append("LIST: ").append(what).append('\n'));
        return text.toString();
    }

    static String markdown(List<Case> cases, Listed listed, String last, String date) {
        StringBuilder page = new StringBuilder("# mqadmin\n\nEvery command of RocketMQ 4.9.3's own mqadmin against the Java name server and broker "
            + "and against Hotfire, with the same data.\nWritten by `just compat-mqadmin --write` on " + date + ". " + last + ".\n\n"
            + "Compared are the outcome and every line that is printed, with numbers, times, ids and addresses taken out. "
            + "*ok* is an end without an error,\n*code N* the code that the server answered, *runs on* a command that ends only when it is stopped.\n\n"
            + "| command | Java | Hotfire | same, or why not |\n| --- | --- | --- | --- |\n");
        for (Case one : cases) {
            page.append("| `").append(cell(one.line)).append("` | ").append(cell(one.java)).append(" | ").append(cell(one.ours))
                .append(" | ").append(cell(one.verdict())).append(" |\n");
        }
        page.append("\n## What differs, line by line\n\n`java:` only Java prints it, `ours:` only Hotfire; `*` stands for anything.\n\n"
            + "| command | difference | reason |\n| --- | --- | --- |\n");
        for (Listed.Entry entry : listed.entries) {
            page.append("| ").append(entry.command).append(" | `").append(cell(entry.pattern)).append("` | ").append(cell(entry.reason)).append(" |\n");
        }
        page.append("\n## Left out\n\n| command | reason |\n| --- | --- |\n");
        for (Map.Entry<String, String> command : listed.leftOut.entrySet()) {
            page.append("| ").append(command.getKey()).append(" | ").append(cell(command.getValue())).append(" |\n");
        }
        return page.toString();
    }

    private static String cell(String text) {
        return text.replace("|", "\\|");
    }
}
