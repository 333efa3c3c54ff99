package compat;

import java.util.LinkedHashSet;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What an output says when values that differ from run to run are taken out of it. */
final class Normal {
    private static final Pattern CODE = Pattern.compile("CODE: *(-?\\d+)");
    private static final Pattern ERROR = Pattern.compile("(?m)^(?:Caused by: )?(?:[a-z]\\w*\\.)+(\\w+(?:Exception|Error))\\b");

    /** `ok`, or how it went wrong: the code that the server answered, the innermost error, the exit code. */
    static String outcome(Mqadmin.Result result) {
        Matcher code = CODE.matcher(result.printed);
        String said = "";
        if (code.find()) {
            said = "code " + code.group(1);
        } else {
            Matcher error = ERROR.matcher(result.printed);
            while (error.find()) {
                said = error.group(1);
            }
        }
        if (result.end.equals("0")) {
            return said.isEmpty() ? "ok" : said;
        }
        return said.isEmpty() ? result.end : result.end + ", " + said;
    }

    /**
     * The different lines, without runs of blanks. Column heads and field names stand in them as they are. Times, ids,
     * addresses, fractions and numbers from 10,000 on become a sign; `loose` takes every number.
     */
    static Set<String> lines(String text, Target target, boolean loose) {
        Set<String> lines = new LinkedHashSet<>();
        for (String line : target.takeBack(text).split("\n")) {
            if (line.matches("\\s+at .*|\\s*\\.\\.\\. \\d+ more\\s*")) {
                continue; // a stack is the client's business
            }
            line = line.replaceAll("\\d{4}-\\d\\d-\\d\\d[ #T]\\d\\d:\\d\\d:\\d\\d([:,.]\\d{3})?", "TIME")
                .replaceAll("(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \\w{3} \\d\\d \\d\\d:\\d\\d:\\d\\d \\w+ \\d{4}", "TIME")
                .replaceAll("\\b[0-9A-F]{32,}\\b", "ID")
                .replaceAll("@[0-9a-f]{5,8}\\b", "@HASH")
                .replaceAll("/?127\\.0\\.0\\.1:\\d+", "ADDRESS")
                .replaceAll("(?<![.\\d])-?\\d+\\.\\d+(E-?\\d+)?(?![.\\d])", "N")
                .replaceAll("compat-\\d+-\\d+", "INSTANCE")
                .replaceAll("(spentTimeMills=|rt:|commitLogOffset=|\"counter\":)\\d+", "$1N")
                .replaceAll(loose ? "-?\\d+" : "(?<![A-Za-z_-])\\d{5,}", "N")
                .trim().replaceAll("\\s+", " ");
            if (!line.isEmpty()) {
                lines.add(line);
            }
        }
        return lines;
    }
}
