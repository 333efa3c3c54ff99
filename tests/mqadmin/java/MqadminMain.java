package compat;

import com.alibaba.fastjson.JSON;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

/** MqadminMain HERE COMPAT RUN FORM PAGE ONLY: see run.sh. FORM is text or json, PAGE a file to write or empty. */
public final class MqadminMain {
    public static void main(String[] args) {
        int code = 2;
        try {
            code = run(Path.of(args[0]), Path.of(args[1]), Path.of(args[2]), args[3], args[4], args[5]);
        } catch (Throwable error) {
            error.printStackTrace();
        }
        System.out.flush();
        Runtime.getRuntime().halt(code);
    }

    private static int run(Path here, Path compat, Path run, String form, String page, String only) throws Exception {
        Mqadmin.catchExit();
        Target java = new Target("java", compat, run);
        Target ours = new Target("hotfire", compat, run);
        for (Target target : List.of(java, ours)) {
            target.start();
            target.fill();
        }
        Listed listed = new Listed(here.resolve("differences.txt"));
        List<Case> cases = Case.read(here.resolve("cases.txt"));
        List<String> wrong = only.isEmpty() ? uncovered(cases, listed) : new ArrayList<>();
        List<Case> ran = cases.stream().filter(one -> only.isEmpty() || one.command.equals(only)).collect(Collectors.toList());
        for (Case one : ran) {
            one.run(java, ours, listed);
            System.err.println(one.verdict().equals("DIFFERS") ? "differs " + one.line : "done " + one.line);
        }
        listed.entries.stream().filter(entry -> !entry.isUsed && only.isEmpty())
            .forEach(entry -> wrong.add("not needed any more: " + entry.command + " | " + entry.pattern));
        long same = ran.stream().filter(one -> one.differences.isEmpty()).count();
        long allowed = ran.stream().filter(one -> !one.differences.isEmpty() && one.isAllowed()).count();
        long differ = ran.size() - same - allowed + wrong.size();
        String last = same + " same, " + allowed + " differ as listed, " + differ + " differ";
        if (!page.isEmpty()) {
            Files.writeString(Path.of(page), MqadminPage.markdown(ran, listed, last, LocalDate.now(ZoneOffset.UTC).toString()));
        }
        System.out.print(form.equals("json") ? json(ran, wrong) : MqadminPage.text(ran, wrong));
        System.out.println(last);
        return differ == 0 ? 0 : 1;
    }

    /** Commands of the help that are neither run nor left out, and the other way round. */
    private static List<String> uncovered(List<Case> cases, Listed listed) throws Exception {
        Set<String> named = cases.stream().map(one -> one.command).collect(Collectors.toCollection(TreeSet::new));
        List<String> wrong = new ArrayList<>();
        Set<String> commands = Mqadmin.commands();
        for (String command : commands) {
            if (named.contains(command) == listed.leftOut.containsKey(command)) {
                wrong.add("expected a case or a reason to leave it out, not both or none: " + command);
            }
        }
        named.addAll(listed.leftOut.keySet());
        named.removeAll(commands);
        named.forEach(command -> wrong.add("no command of mqadmin: " + command));
        return wrong;
    }

    /** One line each, so that the last line of the output stays the summary. */
    private static String json(List<Case> cases, List<String> wrong) {
        List<Map<String, Object>> rows = new ArrayList<>();
        for (Case one : cases) {
            Map<String, Object> row = new LinkedHashMap<>();
            row.put("command", one.line);
            row.put("java", one.java);
            row.put("ours", one.ours);
            row.put("verdict", one.differences.isEmpty() ? "same" : one.isAllowed() ? "listed" : "differs");
            Map<String, String> reasons = new LinkedHashMap<>();
            one.differences.forEach((difference, entry) -> reasons.put(difference, entry == null ? null : entry.reason));
            row.put("differences", reasons);
            rows.add(row);
        }
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("cases", rows);
        all.put("list", wrong);
        return JSON.toJSONString(all, com.alibaba.fastjson.serializer.SerializerFeature.WriteMapNullValue) + "\n";
    }
}
