# SPDX-License-Identifier: MIT
"""Jobs on a pseudo-terminal, and jobs of other users."""

import wire


def test_terminal(anywhere):
    job = anywhere.start("test -t 0 && test -t 1 && test -t 2 && echo tty $TERM; exit 4", terminal=(24, 80))
    anywhere.wait(job)
    assert (job.out, job.code) == (b"tty xterm\r\n", (wire.EXIT, 4))


def test_size(daemon):
    job = daemon.start("trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.01; done", terminal=(24, 80))
    daemon.run(lambda: b"24 80\r\n" in job.out)
    daemon.order(job, "RESIZE", rows=50, columns=132)
    daemon.wait(job)
    assert job.out == b"24 80\r\n50 132\r\n"


def test_keyboard(daemon):
    """What is typed is echoed, ^C goes to what runs, ^D ends."""
    job = daemon.start("exec bash --norc --noediting -i", terminal=(24, 80), live=True)
    daemon.run(lambda: b"# " in job.out)
    daemon.feed(job, b"echo $((6*7))\n")
    daemon.run(lambda: b"42\r\n" in job.out)
    # Said by what ^C is for: the shell has given it the terminal by then.
    daemon.feed(job, b"sh -c 'echo began; exec sleep 1000'; echo never\n")
    daemon.run(lambda: b"began\r\n" in job.out)
    daemon.feed(job, b"\x03")
    daemon.feed(job, b"echo after $?\n")
    daemon.run(lambda: b"after 130" in job.out)
    daemon.feed(job, b"exit 9\n")
    daemon.wait(job)
    assert job.code == (wire.EXIT, 9) and job.out.count(b"never") == 1  # as it was typed


def test_end_of_input(daemon):
    job = daemon.start("cat; echo end", terminal=(24, 80), input=b"line\n")
    daemon.wait(job)
    assert job.out == b"line\r\nline\r\nend\r\n"


def test_much_output(daemon):
    job = daemon.do("seq 100000", terminal=(24, 80))
    assert job.out == b"".join(b"%d\r\n" % i for i in range(1, 100001))


def test_user(daemon):
    job = daemon.do("id -u; id -g; echo $HOME $USER $LOGNAME; touch f; ls -ln f | cut -d' ' -f3; echo x > /dev/stderr; "
                    "echo y > /dev/stdout", user="nobody", workdir="/tmp/nobody", fresh=True)
    assert job.out == b"65534\n65534\n/nonexistent nobody nobody\n65534\ny\n" and job.err == b"x\n"
    job = daemon.do("id -u; id -G; echo $HOME $USER", user="4242", workdir="/tmp/w", fresh=True)
    assert job.out == b"4242\n0\n/ 4242\n"
    job = daemon.do("id -un; id -Gn", user="daemon", workdir="/tmp/d", fresh=True)
    assert job.out == b"daemon\ndaemon\n"
    assert daemon.do("id -u; ls -ln /dev/null | cut -d' ' -f3").out.split()[0] == b"0"


def test_no_such_user(anywhere):
    job = anywhere.do("echo ran", user="who")
    assert job.code[0] == wire.USER and job.text == b"user: there is no user who" and not job.out
    assert anywhere.do("echo $HOME", user="4242").out == b"/\n"  # a number needs no /etc/passwd


def test_cwd_of_others(daemon):
    daemon.do("chmod 700 .", workdir="/tmp/mine", fresh=True)
    job = daemon.do("echo ran", workdir="/tmp", cwd="mine", user="nobody")
    assert job.code[0] == wire.CWD and job.text == b"cwd: /tmp/mine is not for this user" and not job.out


def test_user_on_a_terminal(daemon):
    job = daemon.do("id -u; echo x > /dev/tty; echo y > $(tty)", user="nobody", terminal=(24, 80))
    assert job.out == b"65534\r\nx\r\ny\r\n"


def test_long_command_of_a_user(daemon):
    job = daemon.do("id -u; echo '" + "x" * 200_000 + "' | wc -c", user="nobody")
    assert job.out == b"65534\n200001\n"


def test_hostile_accounts(daemon):
    """Whatever is in /etc/passwd, the helper goes on."""
    for passwd in ["head -c 900000 /dev/urandom", "yes nobody:x:1", "echo nobody:x:0:0", "printf ''"]:
        daemon.do(f"rm -f /etc/passwd 2>/dev/null; {passwd} 2>/dev/null | head -c 900000 > /tmp/passwd; "
                  "mount --bind /tmp/passwd /etc/passwd")
        job = daemon.do("id -u", user="nobody")
        assert job.code[0] == wire.USER
        assert daemon.do("umount /etc/passwd").code == (wire.EXIT, 0)
    assert daemon.do("id -u", user="nobody").out == b"65534\n"
