"""What the root of a sandbox has, whatever kind it is."""

import os

SYSTEM_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
SYSTEM_FILES = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ld.so.cache",
                "/etc/alternatives", "/etc/ssl", "/etc/debian_version", "/etc/os-release")
DIRECTORIES = (("/root", 0o700), ("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/run", 0o755))
FS_TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fs-tools")
FS_TOOLS_PATH = "/__modal/.bin/modal-sandbox-fs-tools"
# Writes to its descriptor 3 when everything around it is in place, and
# becomes the entrypoint.
READY_SCRIPT = 'echo ready >&3; exec 3>&- 4>&-; '
BECOME_SCRIPT = 'exec "$@"'
# Or it stays, as the first process, and buries those whose parents have left them.
INIT_SCRIPT = '"$@" <&0 & wait $!'
# Before that, where there is one, the snapshot that it starts from is unpacked from descriptor 5.
RESTORE_SCRIPT = "tar -xpf - -C / --numeric-owner <&5 3>&- 4>&- || exit 125; exec 5<&-; "


def system_mounts():
    """What lies in a sandbox's root and is not its own."""
    return ["/proc", "/dev", "/sys", "/usr", "/__modal", *("/" + name for name in SYSTEM_LINKS), *SYSTEM_FILES]


def entrypoint(argv, restore, last):
    """The command that a sandbox begins with: it gets ready, and goes on to `argv` as `last` says."""
    return ["/bin/sh", "-c", (RESTORE_SCRIPT if restore else "") + READY_SCRIPT + last, "sh", *argv]


def own_workdir(workdir):
    """Whether its workdir has to be made."""
    return workdir not in ("/", "/root", "/tmp")
