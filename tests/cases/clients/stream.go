// SPDX-License-Identifier: MIT

// stream LEASE JOB: see test_languages.py. Go's runtime asks for edges of every file that it opens.
package main

import (
	"bufio"
	"fmt"
	"os"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(name, text string) {
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	check(err)
	_, err = file.WriteString(text)
	check(err)
	check(file.Close())
}

// Print what comes, a line at a time, and answer the first.
func show(file *os.File) {
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fmt.Println(lines.Text())
		if lines.Text() == "one" {
			write("ctl", "signal USR1\n")
		}
	}
	check(lines.Err())
	check(file.Close())
}

func open(name string) *os.File {
	file, err := os.Open(name)
	check(err)
	return file
}

func main() {
	check(os.Chdir(os.Args[1]))
	write("cmd", os.Args[2])
	show(open("output"))
	show(open("exit_code"))

	file, err := os.OpenFile("cmd", os.O_RDWR, 0)
	check(err)
	for _, part := range []string{"echo a", "b"} {
		_, err = file.WriteString(part)
		check(err)
	}
	show(file)

	write("timeout", "0.2\n")
	write("cmd", "sleep 1000")
	code, err := os.ReadFile("exit_code")
	check(err)
	fmt.Print(string(code))
}
