package compat;

import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The records of a commit log as its files hold them now. */
final class Log {
    private static final int RECORD = 0xDAA320A7;
    private static final int BLANK = 0xCBD43194;

    /** One record: where it lies, and its bytes. */
    static final class Row {
        final long at;
        final ByteBuffer bytes;

        Row(long at, ByteBuffer bytes) {
            this.at = at;
            this.bytes = bytes;
        }
    }

    final List<Row> rows = new ArrayList<>();
    /** Behind the last record. */
    long end;

    static Log read(Path dir) throws Exception {
        Log log = new Log();
        List<Path> files;
        try (Stream<Path> all = Files.list(dir)) {
            files = all.filter(file -> file.getFileName().toString().matches("\\d{20}")).sorted().collect(Collectors.toList());
        }
        for (Path file : files) {
            if (!log.readFile(file, Long.parseLong(file.getFileName().toString()))) {
                break;
            }
        }
        return log;
    }

    /** False when the log ends in this file. */
    private boolean readFile(Path file, long base) throws Exception {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            ByteBuffer bytes = ByteBuffer.allocate((int) channel.size());
            while (bytes.hasRemaining() && channel.read(bytes) > 0) {
                // until the buffer is full
            }
            int at = 0;
            while (at + 8 <= bytes.capacity()) {
                int size = bytes.getInt(at);
                int magic = bytes.getInt(at + 4);
                if (magic == BLANK) {
                    end = base + bytes.capacity();
                    return true;
                }
                if (magic != RECORD || size <= 91 || at + size > bytes.capacity() || bytes.getLong(at + 28) != base + at) {
                    return false;
                }
                rows.add(new Row(base + at, bytes.slice(at, size)));
                at += size;
                end = base + at;
            }
        }
        return true;
    }

    /** Every record of both up to the shorter one's end must be the same bytes at the same place. Returns how many there are. */
    static int same(Log one, Log other, String what) {
        int count = Math.min(one.rows.size(), other.rows.size());
        for (int n = 0; n < count; n++) {
            Row a = one.rows.get(n);
            Row b = other.rows.get(n);
            Report.equal(a.at, b.at, what + ": place of record " + n);
            Report.that(a.bytes.equals(b.bytes), what + ": record " + n + " at " + a.at + " differs");
        }
        return count;
    }
}
