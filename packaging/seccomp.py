#!/usr/bin/env python3
"""Runs a command under a seccomp profile, as a container would: packaging/seccomp.py PROFILE.json COMMAND [ARGUMENT]...

What the profile does not allow fails for the command as it would there. It needs libseccomp, which apt itself needs as well. With --list
instead of a command it prints the names of system calls that this kernel's libseccomp does not know.
"""

import ctypes
import json
import os
import platform
import sys

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
NO_NEW_PRIVS = 38  # PR_SET_NO_NEW_PRIVS
UNKNOWN = -1  # __NR_SCMP_ERROR


def main() -> int:
    profile = json.load(open(sys.argv[1], encoding="utf-8"))
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
    library.seccomp_load.argtypes = [ctypes.c_void_p]

    assert profile["defaultAction"] == "SCMP_ACT_ERRNO", "the profile is a list of what is allowed"
    machine = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
    assert machine in [entry["architecture"] for entry in profile["archMap"]], f"{machine} is not in the profile"
    rules = library.seccomp_init(ERRNO | profile["defaultErrnoRet"])
    unknown = []
    for entry in profile["syscalls"]:
        assert entry["action"] == "SCMP_ACT_ALLOW" and not entry.get("args"), "only whole calls are allowed"
        for name in entry["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == UNKNOWN:
                unknown.append(name)
            # One of another architecture has a number below zero; a rule for it does nothing here.
            elif number >= 0 and library.seccomp_rule_add_array(rules, ALLOW, number, 0, None) != 0:
                raise OSError(f"cannot allow {name}")
    if sys.argv[2:] == ["--list"]:
        print("\n".join(unknown))
        return 0
    if ctypes.CDLL(None, use_errno=True).prctl(NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    result = library.seccomp_load(rules)
    if result != 0:
        raise OSError(-result, "seccomp_load")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
