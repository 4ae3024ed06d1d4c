/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/exec/script.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/util/text.h"

/*
 * $1 exec id, $2 workdir, $3 cwd, $4 shell, $5 1: make the workdir anew, $6 i: there is input,
 * $7 bytes of the command on standard input, $8 prelude, $9 command.
 *
 * Who does not make the workdir anew still makes it where it is missing: the job that had to may have been killed
 * before it did.
 *
 * dd with fullblock reads exactly that much of a pipe, which head of busybox does not: the
 * rest is the command's own. The script lies in a file until the clean-up, for dash reads it bit by bit.
 * Variables have names that no environment has: to set one that was inherited would change the command's.
 */
static const char job_script[] =
        "u(){ case $1 in %*) _v=$(printf '%b.' \"${1#%}\"); _v=${_v%.};; *) _v=${1#=};; esac; }\n"
        "no(){ printf '%s %s\\n' \"$_m $1\" \"$2\" >&2; exit 126; }\n"
        "_m=$1 _f=$5 _i=$6 _n=$7\n"
        "u \"$2\"; _w=$_v; u \"$3\"; _d=$_v; u \"$4\"; _s=$_v; u \"$8\"; _p=$_v; u \"$9\"; _c=$_v\n"
        "if [ \"$_f\" = 1 ]; then\n"
        "  _e=$( { rm -rf -- \"$_w\" && mkdir -p -- \"$_w\"; } 2>&1) || no fail \"making the workdir: $_e\"\n"
        "elif ! [ -d \"$_w\" ]; then mkdir -p -- \"$_w\" 2>/dev/null\n"
        "fi\n"
        "if [ \"$_n\" -gt 0 ]; then\n"
        "  _t=/tmp/.modalpool/$_m\n"
        "  _e=$( { umask 077; mkdir -p /tmp/.modalpool && : >\"$_t\"; } 2>&1) || no fail \"storing the command: $_e\"\n"
        "  dd bs=\"$_n\" count=1 iflag=fullblock of=\"$_t\" 2>/dev/null\n"
        "  [ \"$(($(wc -c <\"$_t\")))\" = \"$_n\" ] || no fail 'storing the command: it did not arrive whole'\n"
        "  _c=\". $_t\"\n"
        "fi\n"
        "case $_d in /*) ;; *) _d=$_w/$_d;; esac\n"
        "_e=$(cd -P -- \"$_d\" 2>&1) || no cwd \"$_d\"\n"
        "cd -P -- \"$_d\" || exit 126\n"
        "unset OLDPWD\n"
        "if [ -n \"$_s\" ]; then command -v \"$_s\" >/dev/null 2>&1 || no fail \"starting the shell: there is no $_s\"\n"
        "elif command -v bash >/dev/null 2>&1; then _s=bash; else _s=sh; fi\n"
        "[ \"$_i\" = i ] || exec </dev/null\n"
        "if [ -n \"$_p\" ]; then eval \"$_p\"; fi\n"
        "exec \"$_s\" -c \"$_c\"\n";

/* $1 shell */
static const char probe_script[] =
        "[ -z \"$1\" ] || command -v \"$1\" >/dev/null 2>&1 || exit 3\n"
        "for p in /proc/[0-9]*; do\n"
        "  i=${p#/proc/}\n"
        "  [ \"$i\" = $$ ] && continue\n"
        "  { read -r l <\"$p/stat\"; } 2>/dev/null || continue\n"
        "  set -- ${l##*) }\n"
        "  echo \"$i:${20}\"\n"
        "done\n";

/*
 * $1 mark, $2 signal. KILL goes round until nobody was found three times, for a process may be forking just now, or
 * be between two programs and have no environment to be read; and first all are stopped, lest a shell goes on with its
 * next command when what it waits for is killed. One grep looks at all processes: where hundreds of sandboxes share a
 * machine, two programs for each process would take longer than a kill may. The mark stands nowhere else.
 */
static const char signal_script[] =
        "exec 2>/dev/null\n"
        "m=$1 s=$2 n=0 e=0\n"
        "while :; do\n"
        "  k=\n"
        "  for p in $(grep -lsF -e \"$m\" /proc/[0-9]*/environ); do\n"
        "    i=${p#/proc/} i=${i%/environ}\n"
        "    [ \"$i\" = $$ ] || k=\"$k $i\"\n"
        "  done\n"
        "  more=1\n"
        "  while [ -n \"$more\" ]; do\n"
        "    more=\n"
        "    for p in /proc/[0-9]*; do\n"
        "      i=${p#/proc/}\n"
        "      case \"$k \" in *\" $i \"*) continue;; esac\n"
        "      { read -r l <\"$p/stat\"; } || continue\n"
        "      set -- ${l##*) }\n"
        "      case $1 in [ZX]) continue;; esac\n"
        "      case \"$k \" in *\" $2 \"*) k=\"$k $i\" more=1;; esac\n"
        "    done\n"
        "  done\n"
        "  if [ -z \"$k\" ]; then\n"
        "    [ \"$s\" = 9 ] && [ $e -lt 2 ] || exit 0\n"
        "    e=$((e+1))\n"
        "    continue\n"
        "  fi\n"
        "  e=0\n"
        "  [ \"$s\" != 9 ] || kill -STOP $k\n"
        "  kill -\"$s\" $k\n"
        "  [ \"$s\" = 9 ] || exit 0\n"
        "  n=$((n+1))\n"
        "  [ $n -lt 50 ] || exit 1\n"
        "done\n";

/*
 * $1 workdir, $2 what the probe said, $3 paths of volumes. A zombie runs no more; who reaps it is the sandbox's affair.
 *
 * What is mounted below /tmp stays, and so does /tmp where it is a volume: their files are not this sandbox's own. A
 * job may have put a link in its place. Files go a hundred at a time, as many as any argument list takes.
 */
static const char clean_script[] =
        "cd /\n"
        "w=$1 b=\" $2 \" m=\" $3 \" n=0 x=0\n"
        "L='\n'\n"
        "no(){ echo \"$1: ${2%%$L*}\"; exit 1; }\n"
        "others(){\n"
        "  k=\n"
        "  for p in /proc/[0-9]*; do\n"
        "    i=${p#/proc/}\n"
        "    [ \"$i\" = $$ ] || [ \"$i\" = \"$PPID\" ] && continue\n"
        "    { read -r l <\"$p/stat\"; } 2>/dev/null || continue\n"
        "    set -- ${l##*) }\n"
        "    case $1 in [ZX]) continue;; esac\n"
        "    case $b in *\" $i:${20} \"*) continue;; esac\n"
        "    k=\"$k $i\"\n"
        "  done\n"
        "}\n"
        "empty(){\n"
        "  for f in \"$1\"/* \"$1\"/.[!.]* \"$1\"/..?*; do\n"
        "    case $m in\n"
        "    *\" $f \"*) continue;;\n"
        "    *\" $f/\"*) empty \"$f\"; continue;;\n"
        "    esac\n"
        "    set -- \"$@\" \"$f\"\n"
        "    [ $# -le 100 ] || { shift; rm -rf -- \"$@\" || x=1; set -- \"\"; }\n"
        "  done\n"
        "  shift\n"
        "  [ $# = 0 ] || rm -rf -- \"$@\" || x=1\n"
        "}\n"
        "try(){ dd if=/dev/zero of=\"$1/.modalpool\" bs=65536 count=1 2>&1 && rm -f -- \"$1/.modalpool\" 2>&1; }\n"
        "while others; [ -n \"$k\" ]; do\n"
        "  [ $n -lt 60 ] || no 'processes that do not end' \"$k\"\n"
        "  kill -9 $k 2>/dev/null\n"
        "  n=$((n+1))\n"
        "  [ $n -lt 5 ] || sleep 0.1 2>/dev/null || sleep 1\n"
        "done\n"
        "e=$(rm -rf -- \"$w\" /tmp/.modalpool 2>&1)\n"
        "[ ! -L /tmp ] || no 'emptying /tmp' 'it is a link'\n"
        "[ -d /tmp ] || mkdir -m 1777 /tmp\n"
        "while read -r q p q; do case $p in /tmp/*) m=\"$m$p \";; esac; done </proc/mounts\n"
        "case $m in *' /tmp '*|*' /tmp/ '*) ;; *) e=$(empty /tmp 2>&1; exit $x) || no 'emptying /tmp' \"$e\";; esac\n"
        "e=$(try /tmp) || no 'writing in /tmp' \"$e\"\n"
        "e=$(mkdir -p -- \"$w\" 2>&1 && try \"$w\") || no 'writing in the workdir' \"$e\"\n"
        "e=$(rm -rf -- \"$w\" 2>&1)\n"
        "if [ -e \"$w\" ] || [ -L \"$w\" ]; then no 'the workdir is still there' \"$e\"; fi\n"
        "exit 0\n";

void script_init(struct script *s) {
        *s = (struct script){ .buf = BUF_INIT(SCRIPT_SIZE_MAX) };
}

void script_deinit(struct script *s) {
        buf_deinit(&s->buf);
        *s = (struct script){ .buf = BUF_INIT(SCRIPT_SIZE_MAX) };
}

const char *script_argument(const struct script *s, size_t i) {
        return s->buf.data + s->offsets[i];
}

/* What was appended since @from is an argument. */
static int end_argument(struct script *s, size_t from, int r) {
        if (r == 0)
                r = buf_append(&s->buf, "", 1);
        if (r == 0 && s->n == SCRIPT_ARGUMENTS_MAX)
                r = -E2BIG;
        if (r < 0)
                return r;
        s->offsets[s->n++] = from;
        s->size += s->buf.len - from - 1;
        return 0;
}

int script_add(struct script *s, const char *argument) {
        size_t from = s->buf.len;

        return end_argument(s, from, buf_append(&s->buf, argument, strlen(argument)));
}

int script_add_bytes(struct script *s, const char *data, size_t len) {
        size_t from = s->buf.len, plain;
        char octal[8];
        int r;

        if (text_is_utf8(data, len)) {
                r = buf_append(&s->buf, "=", 1);
                if (r == 0)
                        r = buf_append(&s->buf, data, len);
                return end_argument(s, from, r);
        }
        r = buf_append(&s->buf, "%", 1);
        for (size_t i = 0; r == 0 && i < len; i += plain) {
                for (plain = 0; i + plain < len && data[i + plain] != '\\' && (signed char)data[i + plain] > 0; plain++)
                        ;
                r = buf_append(&s->buf, data + i, plain);
                if (r == 0 && i + plain < len) {
                        snprintf(octal, sizeof(octal), "\\0%03o", (unsigned char)data[i + plain++]);
                        r = buf_append(&s->buf, octal, strlen(octal));
                }
        }
        return end_argument(s, from, r);
}

static int add_text(struct script *s, const char *text) {
        return script_add_bytes(s, text, strlen(text));
}

static int begin(struct script *s, const char *text) {
        int r = script_add(s, "/bin/sh");

        if (r == 0)
                r = script_add(s, "-c");
        if (r == 0)
                r = script_add(s, text);
        return r < 0 ? r : script_add(s, "modalpool");
}

int script_make_job(struct script *s, const struct script_job *job) {
        char number[24];
        int r = begin(s, job_script);

        snprintf(number, sizeof(number), "%zu", job->on_stdin);
        if (r == 0)
                r = script_add(s, job->exec_id);
        if (r == 0)
                r = add_text(s, job->workdir);
        if (r == 0)
                r = add_text(s, job->cwd);
        if (r == 0)
                r = add_text(s, job->shell ? job->shell : "");
        if (r == 0)
                r = script_add(s, job->fresh ? "1" : "0");
        if (r == 0)
                r = script_add(s, job->input ? "i" : "n");
        if (r == 0)
                r = script_add(s, number);
        if (r == 0)
                r = add_text(s, job->on_stdin ? "" : job->prelude);
        return r < 0 ? r : script_add_bytes(s, job->command, job->on_stdin ? 0 : job->command_len);
}

int script_export(struct buf *out, const char *entry) {
        const char *value = strchr(entry, '=');
        int r;

        if (!value)
                return -EINVAL;
        /* A shell can export nothing else. */
        for (const char *c = entry; c < value; c++)
                if (!(*c == '_' || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                      (c > entry && *c >= '0' && *c <= '9')))
                        return 0;
        r = buf_printf(out, "export %.*s=", (int)(value - entry), entry);
        if (r == 0)
                r = text_quote(value + 1, out);
        return r < 0 ? r : buf_append(out, "\n", 1);
}

int script_make_probe(struct script *s, const char *shell) {
        int r = begin(s, probe_script);

        return r < 0 ? r : script_add(s, shell);
}

int script_make_signal(struct script *s, const char *mark, int signo) {
        char number[16];
        int r = begin(s, signal_script);

        snprintf(number, sizeof(number), "%d", signo);
        if (r == 0)
                r = script_add(s, mark);
        return r < 0 ? r : script_add(s, number);
}

int script_make_clean(struct script *s, const char *workdir, const char *kept, const char *volumes) {
        int r = begin(s, clean_script);

        if (r == 0)
                r = script_add(s, workdir);
        if (r == 0)
                r = script_add(s, kept);
        return r < 0 ? r : script_add(s, volumes);
}
