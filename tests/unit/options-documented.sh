#!/usr/bin/env bash
# SPDX-License-Identifier: MIT

# options-documented.sh MODALPOOL MANPAGE COMPLETION: every option that -h prints
# stands in the man page, with the same default, and is offered by the completion.
# shellcheck disable=SC2317 # check() calls them all
set -u
program=$1 page=$2 completion=$3
n=0 failed=0

# check NAME COMMAND…
check() {
    local name=$1
    shift
    n=$((n + 1))
    if "$@"; then
        echo "ok $n - $name"
    else
        echo "not ok $n - $name"
        failed=1
    fi
}

# "NAME DEFAULT" for each; without a default, the name alone.
of_help=$("$program" -h | sed -n '/^options/,/^$/{
    s/^  \([a-z_]\{1,\}\)=.* (\([^ ()]*\))$/\1 \2/p
    t
    s/^  \([a-z_]\{1,\}\)=.*/\1/p
}' | sort)
of_page=$(sed -n '/^\.Sh OPTIONS/,/^\.Sh MOUNT/{
    s/^\.It Cm \([a-z_]*\) Pq \(.*\)$/\1 \2/p
    s/^\.It Cm \([a-z_]*\)$/\1/p
}' "$page" | sort)
names=$(echo "$of_help" | cut -d ' ' -f 1)

at_least_30() {
    [ "$(echo "$names" | wc -l)" -ge 30 ]
}

in_page() {
    local entry
    entry=$(echo "$of_help" | grep -x "$1\( .*\)\?")
    echo "$of_page" | grep -qxF -- "$entry" && return
    echo "# modalpool -h has \"$entry\", the man page \"$(echo "$of_page" | grep -x "$1\( .*\)\?")\""
    return 1
}

compopt() { :; } # only there while bash completes
# shellcheck disable=SC1090
source "$completion"

# All that may follow "-o $1".
complete_option() {
    local COMP_WORDBREAKS=$' \t\n"\'><=;|&(:' COMP_CWORD=2 COMPREPLY=()
    local COMP_WORDS=("$program" -o "$1") COMP_LINE="$program -o $1"
    local COMP_POINT=${#COMP_LINE}
    _modalpool
    printf '%s\n' "${COMPREPLY[@]}"
}
of_completion=$(complete_option '')

offered() {
    echo "$of_completion" | grep -qxF -- "$1="
}

# The words that the option takes, of which the help shows each behind a |, and no others.
words_offered() {
    [ "$(complete_option "$1=" | paste -sd '|')" = "$2" ]
}

none_unknown() {
    local unknown
    unknown=$(comm -13 <(echo "$names" | sort -u) <(echo "$of_page" | sed 's/ .*//' | sort -u))
    [ -z "$unknown" ] && return
    echo "# only in the man page: ${unknown//$'\n'/ }"
    return 1
}

check 'the help lists options' at_least_30
for name in $names; do
    check "$name is in the man page, with its default" in_page "$name"
    check "$name is offered by the completion" offered "$name"
done
for choice in $("$program" -h | sed -n '/^options/,/^$/s/^  \([a-z_]\{1,\}=[^ ]*|[^ ]*\) .*/\1/p'); do
    check "$choice: the completion offers these" words_offered "${choice%%=*}" "${choice#*=}"
done
check 'a file is offered where one is taken' grep -qx /etc/passwd <<< "$(complete_option cafile=/etc/passw)"
check 'the man page has no others' none_unknown

# run_offers LAST WORD… - what may follow "modalpool run WORD…"; LAST is among it.
run_offers() {
    local wanted=$1
    shift
    local COMP_WORDBREAKS=$' \t\n"\'><=;|&(:' COMP_WORDS=("$program" run "$@") COMP_CWORD=$(($# + 1)) COMPREPLY=()
    local COMP_LINE="$program run $*"
    local COMP_POINT=${#COMP_LINE}
    _modalpool
    printf '%s\n' "${COMPREPLY[@]}" | grep -qxF -- "$wanted"
}

run_is_complete() {
    local option
    for option in $("$program" run -h | sed -n 's/^  \(-[-a-z]*\).*/\1/p'); do
        grep -q "^\.It Fl ${option#-}\( \|$\)" "$page" || [ "$option" = -h ] || return
        run_offers "$option" - || [ "$option" = -h ] || return
    done
}

check 'the options of run are in the man page and in the completion' run_is_complete
check 'run takes a directory' run_offers /etc/ssl -n -w /tmp /etc/ss
check 'run takes a variable before it' run_offers /etc/ssl -e A = 1 /etc/ss
check 'run takes a program behind it' run_offers timeout /tmp timeo
check 'run takes a program behind --' run_offers timeout /tmp -- timeo
echo "1..$n"
exit $failed
