// SPDX-License-Identifier: MIT

// stream LEASE JOB: see test_languages.py.

use std::fs::{read_to_string, File, OpenOptions};
use std::io::{BufRead, BufReader, Result, Write};

fn write(name: &str, text: &str) -> Result<()> {
    OpenOptions::new().write(true).open(name)?.write_all(text.as_bytes())
}

// Print what comes, a line at a time, and answer the first.
fn show(file: File) -> Result<()> {
    for line in BufReader::new(file).lines() {
        let line = line?;
        println!("{}", line);
        if line == "one" {
            write("ctl", "signal USR1\n")?;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    std::env::set_current_dir(&arguments[1])?;
    write("cmd", &arguments[2])?;
    show(File::open("output")?)?;
    show(File::open("exit_code")?)?;

    let mut file = OpenOptions::new().read(true).write(true).open("cmd")?;
    file.write_all(b"echo a")?;
    file.write_all(b"b")?;
    show(file)?;

    write("timeout", "0.2\n")?;
    write("cmd", "sleep 1000")?;
    print!("{}", read_to_string("exit_code")?);
    Ok(())
}
