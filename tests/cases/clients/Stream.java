// SPDX-License-Identifier: MIT

import java.io.BufferedReader;
import java.io.FileReader;
import java.io.FileWriter;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;

/** Stream LEASE JOB: see test_languages.py. */
class Stream {
    static String lease;

    static void write(String name, String text) throws IOException {
        try (FileWriter file = new FileWriter(lease + "/" + name)) {
            file.write(text);
        }
    }

    /** Print what comes, a line at a time, and answer the first. */
    static void show(String name) throws IOException {
        try (BufferedReader file = new BufferedReader(new FileReader(lease + "/" + name))) {
            for (String line; (line = file.readLine()) != null;) {
                System.out.println(line);
                if (line.equals("one"))
                    write("ctl", "signal USR1\n");
            }
        }
    }

    public static void main(String[] arguments) throws IOException {
        lease = arguments[0];
        write("cmd", arguments[1]);
        show("output");
        show("exit_code");

        try (RandomAccessFile file = new RandomAccessFile(lease + "/cmd", "rw")) {
            file.writeBytes("echo a");
            file.writeBytes("b");
            for (String line; (line = file.readLine()) != null;)
                System.out.println(line);
        }

        write("timeout", "0.2\n");
        write("cmd", "sleep 1000");
        System.out.print(Files.readString(Path.of(lease, "exit_code")));
    }
}
