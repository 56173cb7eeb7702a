"""Statistics of the kernel about processes: CPU, memory and open files."""

import contextlib
import os
import resource
from dataclasses import dataclass

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The parent of the kernel's own threads.
KTHREADD = 2


@dataclass
class Cpu:
    """Seconds of CPU of all threads of a process, including threads that have ended."""

    user: float = 0.0
    system: float = 0.0

    def __add__(self, other):
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other):
        return Cpu(self.user - other.user, self.system - other.system)

    @property
    def total(self):
        return self.user + self.system


def _read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _stat(pid):
    """Returns the fields of /proc/PID/stat from the third on, because the name before them may contain anything."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def cpu(pid):
    """Returns the CPU time that a process has used."""
    fields = _stat(pid)
    return Cpu(int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND)


def tree(pid):
    """Returns a process and all of its descendants."""
    children = {}
    for other in _pids():
        with contextlib.suppress(OSError):  # it has ended
            children.setdefault(int(_stat(other)[1]), []).append(other)
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, []))
    return found


def resident_bytes(pid):
    """Returns the memory of a process; shared memory is divided among the processes that share it."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Pss of {pid}")


def open_files(pid):
    """Returns the number of files and sockets that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def socket_buffer_bytes():
    """Returns the memory that the kernel uses for the buffers of all TCP sockets of this machine."""
    for line in _read("/proc/net/sockstat").splitlines():
        if line.startswith("TCP:"):
            fields = line.split()
            return int(fields[fields.index("mem") + 1]) * PAGE_BYTES
    raise RuntimeError("/proc/net/sockstat has no TCP")


def slab_bytes():
    """Returns the memory that the kernel uses for its own objects, including sockets."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo has no Slab")


def cpu_of_others():
    """Returns the CPU seconds that other programs used: not this process, its ended children, or kernel threads.

    Kernel threads mostly handle the benchmark's own traffic. Time that a hypervisor gave to its other guests is
    included.
    """
    fields = _read("/proc/stat").splitlines()[0].split()
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    ticks = dict(zip(names, map(int, fields[1:]), strict=False))
    busy = sum(ticks[name] for name in names if name not in ("idle", "iowait")) / TICKS_PER_SECOND
    ours = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return busy - sum(usage.ru_utime + usage.ru_stime for usage in ours) - _cpu_of_the_kernel()


def _cpu_of_the_kernel():
    used = Cpu()
    for pid in _pids():
        with contextlib.suppress(OSError):  # it has ended
            if _stat(pid)[1] == str(KTHREADD):
                used += cpu(pid)
    return used.total


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
