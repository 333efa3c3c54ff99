package compat;

import java.nio.file.Path;

/** Main SUITE KIND HERE RUN [ONLY]: runs one suite of checks and prints `note done` when it came to its end. */
public final class Main {
    public static void main(String[] args) {
        Servers servers = new Servers(args[1], Path.of(args[2]), Path.of(args[3]));
        String only = args.length > 4 ? args[4] : "";
        String serialize = System.getProperty("rocketmq.serialize.type", "JSON");
        try {
            switch (args[0]) {
                case "wire":
                    String prefix = serialize.equals("JSON") ? "json" : "binary";
                    WireSuite.run(servers, new Report(prefix, only), prefix);
                    break;
                case "cluster":
                    ClusterSuite.run(servers, new Report("cluster", only));
                    break;
                case "store":
                    StoreSuite.run(servers, new Report("store", only));
                    break;
                default:
                    throw new IllegalArgumentException("expected wire, cluster or store, got " + args[0]);
            }
            System.out.println("note done");
            System.out.flush();
            Runtime.getRuntime().halt(0);
        } catch (Throwable error) {
            error.printStackTrace();
            System.out.println("FAIL " + args[0] + "-setup: " + String.valueOf(error).replaceAll("\\s+", " "));
            System.out.flush();
            Runtime.getRuntime().halt(1);
        }
    }
}
