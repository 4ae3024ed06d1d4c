# SPDX-License-Identifier: MIT

# stream.sh LEASE JOB: see test_languages.py; with nothing but what is built into a small shell.

# Print what comes, a line at a time, and answer the first.
show() {
    while read -r line; do
        echo "$line"
        [ "$line" != one ] || echo 'signal USR1' > ctl
    done
}

cd "$1" || exit
echo "$2" > cmd
show < output
show < exit_code

exec 3<> cmd
printf 'echo a' >&3
printf b >&3
show <&3
exec 3>&-

echo 0.2 > timeout
echo 'sleep 1000' > cmd
show < exit_code
