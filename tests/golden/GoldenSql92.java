import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import org.apache.rocketmq.broker.filter.MessageEvaluationContext;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.Expression;

/**
 * Writes what Java makes of SQL92 filters: reads lines "selector TAB properties" in JSON string escapes without
 * quotes, and puts the outcome before each: true, false, null, fault or illegal.
 *
 * java -cp 'KIT/lib/4.9.3/*' tests/golden/GoldenSql92.java CASES > tests/golden/sql92.txt
 * where CASES is made by: SQL92_CASES=CASES cargo test --test sql92 cases
 */
public class GoldenSql92 {
    public static void main(String[] args) throws Exception {
        java.io.PrintStream out = new java.io.PrintStream(System.out, true, "UTF-8");
        out.println("# What org.apache.rocketmq.filter 4.9.3 makes of selectors: outcome, selector, properties, in JSON escapes.");
        out.println("# Made by tests/golden/GoldenSql92.java from cases of tests/sql92.rs, Java " + System.getProperty("java.version") + ".");
        for (String line : Files.readAllLines(Path.of(args[0]), StandardCharsets.UTF_8)) {
            String[] parts = line.split("\t", -1);
            out.println(outcome(unescaped(parts[0]), unescaped(parts[1])) + "\t" + line);
        }
    }

    static String outcome(String selector, String properties) {
        Expression expression;
        try {
            expression = FilterFactory.INSTANCE.get("SQL92").compile(selector);
        } catch (Exception e) {
            return "illegal";
        }
        try {
            Map<String, String> map = MessageDecoder.string2messageProperties(properties);
            Object value = expression.evaluate(new MessageEvaluationContext(map));
            return String.valueOf(value);
        } catch (Exception e) {
            return "fault";
        }
    }

    static String unescaped(String text) {
        StringBuilder out = new StringBuilder();
        for (int at = 0; at < text.length(); at++) {
            char c = text.charAt(at);
            if (c != '\\') {
                out.append(c);
                continue;
            }
            c = text.charAt(++at);
            switch (c) {
                case 'u':
                    out.append((char) Integer.parseInt(text.substring(at + 1, at + 5), 16));
                    at += 4;
                    break;
                case 'n': out.append('\n'); break;
                case 't': out.append('\t'); break;
                case 'r': out.append('\r'); break;
                case 'b': out.append('\b'); break;
                case 'f': out.append('\f'); break;
                default: out.append(c);
            }
        }
        return out.toString();
    }
}
