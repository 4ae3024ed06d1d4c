/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/exec/script.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/text.h"

#define CARRIER "MODALPOOL_ENV_" /* of a variable's value on its way to the wrapper, with a number behind it */

/*
 * $1 exec id, $2 workdir, $3 cwd, $4 shell, $5 1: make the workdir anew, $6 i: there is input,
 * $7 bytes of the command on standard input, $8 prelude, or #N: so many bytes of it come before that, $9 command.
 *
 * Who does not make the workdir anew still makes it where it is missing: the job that had to may have been killed
 * before it did.
 *
 * dd with fullblock reads exactly that much of a pipe, which head of busybox does not: the
 * rest is the command's own. The script lies in a file until the clean-up, for dash reads it bit by bit.
 * Variables have names that no environment has: to set one that was inherited would change the command's. What the
 * job's own environment has comes in last of all, by the prelude, and then nothing is looked up any more.
 */
static const char job_script[] =
        "u(){ case $1 in %*) _v=$(printf '%b.' \"${1#%}\"); _v=${_v%.};; *) _v=${1#=};; esac; }\n"
        "no(){ printf '%s %s\\n' \"$_m $1\" \"$2\" >&2; exit 126; }\n"
        "_m=$1 _f=$5 _i=$6 _n=$7\n"
        "u \"$2\"; _w=$_v; u \"$3\"; _d=$_v; u \"$4\"; _s=$_v; u \"$9\"; _c=$_v\n"
        "case $8 in\n"
        "\\#*) _p=$(dd bs=\"${8#?}\" count=1 iflag=fullblock 2>/dev/null);;\n"
        "*) u \"$8\"; _p=$_v;;\n"
        "esac\n"
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
        "_e=$(cd -P -- \"$_d\" 2>&1) || no cwd \"$_d\"\n"
        "cd -P -- \"$_d\" || exit 126\n"
        "unset OLDPWD\n"
        "if [ -n \"$_s\" ]; then _e=$(command -v \"$_s\") || no fail \"starting the shell: there is no $_s\"\n"
        "else _e=$(command -v bash) || _e=$(command -v sh); fi\n"
        "[ \"$_i\" = i ] || exec </dev/null\n"
        "set -- \"$_e\" -c \"$_c\"\n"
        "{ eval \"$_p\"; } 2>/dev/null\n"
        "exec \"$@\"\n";

/*
 * $1 shell
 *
 * What began later than the probe belongs to jobs. Process times count in hundredths of a second: the probe ends only
 * when that clock has moved on, so that nothing later has its own.
 */
static const char probe_script[] =
        "[ -z \"$1\" ] || command -v \"$1\" >/dev/null 2>&1 || exit 3\n"
        "{ read -r l </proc/$$/stat; } 2>/dev/null || exit 0\n"
        "set -- ${l##*) }\n"
        "t=${20}\n"
        "echo \"$$:$t\"\n"
        "while ( read -r l </proc/self/stat; set -- ${l##*) }; [ \"${20}\" -le \"$t\" ] ); do :; done\n";

/*
 * $a: all processes but this one that began later than those of $own, as PID:PARENT:SESSION:START. A name may hold
 * anything, line ends too. One whose first thread has ended says that it is a zombie, while others go on. They are in the
 * order of their numbers, so that TERM reaches a shell before what it waits for.
 */
#define D "[0-9]"
#define SCAN                                                             \
        "t=0\n"                                                          \
        "for x in $own; do x=${x#*:}; [ \"$x\" -le $t ] || t=$x; done\n" \
        "scan(){\n"                                                      \
        "  a=\n"                                                         \
        "  for p in /proc/" D " /proc/" D D " /proc/" D D D " /proc/" D D D D " /proc/" D D D D D " /proc/" D D D D D D \
        " /proc/" D D D D D D D "; do\n"                                 \
        "    i=${p#/proc/}\n"                                            \
        "    [ \"$i\" = $$ ] && continue\n"                              \
        "    l=\n"                                                       \
        "    while read -r x; do l=\"$l$x \"; done <\"$p/stat\"\n"       \
        "    [ -n \"$l\" ] || continue\n"                                \
        "    set -- ${l##*) }\n"                                         \
        "    case $1 in [ZX]) [ \"${18}\" -gt 1 ] || continue;; esac\n"  \
        "    [ \"${20}\" -le $t ] || a=\"$a $i:$2:$4:${20}\"\n"          \
        "  done\n"                                                       \
        "}\n"

/*
 * $1 mark, $2 own, $3 signal, or kill, $4 tenths of a second between TERM and KILL.
 *
 * The job's first process was started by whoever starts us too, in a session of its own; or it carries the mark. What
 * began before it, and what belongs to that by its session or descent, is left from earlier jobs. All else is this
 * job's, whatever it did to its environment, title, session or parent.
 *
 * Signals to the job may find this script, too: it ignores those that ask. KILL goes round until nothing was found
 * three times, for a process may be forking just now; and first all are stopped, lest a shell goes on with its next
 * command when what it waits for is killed.
 */
static const char signal_script[] =
        "exec 2>/dev/null\n"
        "trap '' HUP INT QUIT USR1 USR2 PIPE ALRM TERM\n"
        "mark=$1 own=$2 b=\n"
        SCAN
        "part(){ i=${1%%:*} y=${1##*:} s=${1#*:}; p=${s%%:*} s=${s#*:}; s=${s%%:*}; }\n"
        "began(){\n"
        "  m=\n"
        "  for p in $(grep -lsF -e \"$mark\" /proc/[0-9]*/environ); do p=${p#/proc/} m=\"$m ${p%/environ}\"; done\n"
        "  for x in $a; do\n"
        "    part $x\n"
        "    case \"$m \" in\n"
        "    *\" $i \"*) [ $p = $PPID ] && b=$y f=$i && return;;\n"
        "    *) [ $p = $PPID ] && [ $s = $i ] || continue;;\n"
        "    esac\n"
        "    [ -n \"$b\" ] && [ $b -le $y ] || b=$y f=$i\n"
        "  done\n"
        "}\n"
        "find(){\n"
        "  scan\n"
        "  k= e= z= more=1\n"
        "  [ -n \"$b\" ] || began\n"
        "  [ -n \"$b\" ] || return\n"
        "  for x in $a; do\n"
        "    part $x\n"
        "    if [ $y -lt $b ] || [ $y = $b -a $i -lt $f ]; then e=\"$e $i\" z=\"$z $s\"; fi\n"
        "  done\n"
        "  while [ -n \"$more\" ]; do\n"
        "    more=\n"
        "    for x in $a; do\n"
        "      part $x\n"
        "      case \"$e \" in *\" $i \"*) continue;; esac\n"
        "      case \"$e @$z \" in *\" $p \"*@*|*@*\" $s \"*) e=\"$e $i\" z=\"$z $s\" more=1;; esac\n"
        "    done\n"
        "  done\n"
        "  for x in $a; do\n"
        "    case \"$e \" in *\" ${x%%:*} \"*) ;; *) k=\"$k ${x%%:*}\";; esac\n"
        "  done\n"
        "}\n"
        "find\n"
        "if [ \"$3\" != kill ]; then kill -\"$3\" $k; exit 0; fi\n"
        "n=0 z=0\n"
        "[ \"$4\" = 0 ] || kill -TERM $k\n"
        "while [ $n -lt \"$4\" ] && [ -n \"$k\" ]; do\n"
        "  if sleep 0.1; then n=$((n+1)); else sleep 1; n=$((n+10)); fi\n"
        "  find\n"
        "done\n"
        "n=0 none=0\n"
        "while :; do\n"
        "  if [ -z \"$k\" ]; then\n"
        "    none=$((none+1))\n"
        "    [ $none -lt 3 ] || break\n"
        "  else\n"
        "    none=0 n=$((n+1))\n"
        "    kill -STOP $k\n"
        "    kill -KILL $k\n"
        "    [ $n -lt 60 ] || break\n"
        "    [ $n -lt 20 ] || sleep 0.1 || sleep 1\n"
        "  fi\n"
        "  find\n"
        "done\n"
        "if [ -z \"$b\" ]; then echo 'none of its processes was found'; exit 2; fi\n"
        "[ -n \"$k\" ] || exit 0\n"
        "l=\n"
        "for i in $k; do read -r x <\"/proc/$i/comm\" && l=\"$l${l:+, }$i ($x)\"; done\n"
        "echo \"not ended by KILL: $l\"\n"
        "exit 1\n";

/*
 * $1 workdir, $2 own, $3 paths of volumes. A zombie runs no more; who reaps it is the sandbox's affair.
 *
 * What is mounted below /tmp stays, and so does /tmp where it is a volume: their files are not this sandbox's own. A
 * job may have put a link in its place. Files go a hundred at a time, as many as any argument list takes.
 */
static const char clean_script[] =
        "cd /\n"
        "w=$1 own=$2 m=\" $3 \" n=0\n"
        "L='\n'\n"
        "no(){ echo \"$1: ${2%%$L*}\"; exit 1; }\n"
        "[ -d /proc/$$ ] || { echo 'its processes cannot be seen in /proc'; exit 1; }\n"
        SCAN
        "others(){\n"
        "  { scan; } 2>/dev/null\n"
        "  k=\n"
        "  for x in $a; do [ ${x%%:*} = \"$PPID\" ] || k=\"$k ${x%%:*}\"; done\n"
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
        "e=$(rm -rf -- \"$w\" /tmp/.modalpool 2>&1) x=0\n"
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
        char number[24], head[24];
        int r = begin(s, job_script);

        snprintf(number, sizeof(number), "%zu", job->on_stdin);
        snprintf(head, sizeof(head), "#%zu", job->prelude_on_stdin);
        if (r == 0)
                r = script_add(s, job->exec_id);
        if (r == 0)
                r = add_text(s, job->workdir);
        if (r == 0)
                r = add_text(s, job->cwd);
        if (r == 0)
                r = add_text(s, job->shell);
        if (r == 0)
                r = script_add(s, job->fresh ? "1" : "0");
        if (r == 0)
                r = script_add(s, job->input ? "i" : "n");
        if (r == 0)
                r = script_add(s, number);
        if (r == 0)
                r = job->prelude_on_stdin ? script_add(s, head) : add_text(s, job->on_stdin ? "" : job->prelude);
        return r < 0 ? r : script_add_bytes(s, job->command, job->on_stdin ? 0 : job->command_len);
}

/* One that a shell can hold, and has no meaning of its own for: others would end the wrapper, or not arrive. */
static bool is_exportable(const char *name, size_t len) {
        static const char *const special[] = {
                "_",      "DIRSTACK", "EUID",   "FUNCNAME", "GROUPS",    "HISTCMD", "LINENO",
                "OPTIND", "PPID",     "RANDOM", "SECONDS",  "SHELLOPTS", "SRANDOM", "UID",
        };

        for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
                if (!strcmp(name, special[i]))
                        return false;
        return text_is_variable(name, len) && strncmp(name, "BASH", 4) != 0 && strncmp(name, "EPOCH", 5) != 0;
}

/* The value as shell text: what its carrier holds, or what it is, where Modal would not take it. */
static int add_value(struct buf *prelude, const char *value, size_t number, bool carried) {
        return carried ? buf_printf(prelude, "\"$" CARRIER "%zu\"", number) : text_quote(value, prelude);
}

/* "export NAME=VALUE", or "set -- ENV -- NAME=VALUE "$@"" where that would not do. */
static int add_variable(const char *entry, size_t number, bool special, struct buf *carriers, struct buf *prelude) {
        const char *value = strchr(entry, '=');
        _cleanup_(cleanup_free) char *name = value ? strndup(entry, value - entry) : NULL;
        bool carried;
        int r;

        if (!value || !name)
                return value ? -ENOMEM : -EINVAL;
        if (is_exportable(name, strlen(name)) == special)
                return 0;
        value++;
        carried = text_is_utf8(value, strlen(value));
        r = carried ? buf_printf(carriers, CARRIER "%zu=%s", number, value) : 0;
        if (r == 0 && carried)
                r = buf_append(carriers, "", 1);
        if (r == 0)
                r = buf_printf(prelude, special ? "set -- \"$(command -v env)\" -- " : "export ");
        if (r == 0)
                r = special ? text_quote(name, prelude) : buf_printf(prelude, "%s", name);
        if (r == 0)
                r = buf_printf(prelude, "=");
        if (r == 0)
                r = add_value(prelude, value, number, carried);
        if (r == 0 && special)
                r = buf_printf(prelude, " \"$@\"");
        if (r == 0 && carried)
                r = buf_printf(prelude, "\nunset " CARRIER "%zu", number);
        return r < 0 ? r : buf_append(prelude, "\n", 1);
}

int script_make_env(const char *const *env, struct buf *carriers, struct buf *prelude) {
        static const char mark[] = EXEC_MARK "=";
        int r = 0;

        /* Those that need the program env come first, as long as it is found. */
        for (int special = 1; special >= 0; special--)
                for (size_t i = 0; r == 0 && env[i]; i++)
                        if (strncmp(env[i], mark, strlen(mark)) != 0)
                                r = add_variable(env[i], i, special, carriers, prelude);
        for (size_t i = 0; r == 0 && env[i]; i++)
                if (!strncmp(env[i], mark, strlen(mark)))
                        r = buf_append(carriers, env[i], strlen(env[i]) + 1);
        return r;
}

int script_make_probe(struct script *s, const char *shell) {
        int r = begin(s, probe_script);

        return r < 0 ? r : script_add(s, shell);
}

static int make_signal(struct script *s, const char *mark, const char *own, const char *what, int64_t grace_us) {
        char tenths[24];
        int r = begin(s, signal_script);

        snprintf(tenths, sizeof(tenths), "%" PRId64, (grace_us + USEC_PER_SEC / 10 - 1) / (USEC_PER_SEC / 10));
        if (r == 0)
                r = script_add(s, mark);
        if (r == 0)
                r = script_add(s, own);
        if (r == 0)
                r = script_add(s, what);
        return r < 0 ? r : script_add(s, tenths);
}

int script_make_signal(struct script *s, const char *mark, const char *own, int signo) {
        char number[16];

        snprintf(number, sizeof(number), "%d", signo);
        return make_signal(s, mark, own, number, 0);
}

int script_make_kill(struct script *s, const char *mark, const char *own, int64_t grace_us) {
        return make_signal(s, mark, own, "kill", grace_us);
}

int script_make_clean(struct script *s, const char *workdir, const char *own, const char *volumes) {
        int r = begin(s, clean_script);

        if (r == 0)
                r = script_add(s, workdir);
        if (r == 0)
                r = script_add(s, own);
        return r < 0 ? r : script_add(s, volumes);
}
