"""What the kernel says about processes: CPU, memory, open files."""

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
    """Seconds of CPU, of all threads of a process, those that have ended too."""

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
    """The fields of /proc/PID/stat from the third on: the name before them may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def cpu(pid):
    """The CPU that a process has used."""
    fields = _stat(pid)
    return Cpu(int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND)


def tree(pid):
    """A process and all below it."""
    children = {}
    for other in _pids():
        with contextlib.suppress(OSError):  # it has ended
            children.setdefault(int(_stat(other)[1]), []).append(other)
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, []))
    return found


def resident_bytes(pid):
    """Memory of a process: what it shares with others is divided among those who share it."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Pss of {pid}")


def open_files(pid):
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def socket_buffer_bytes():
    """What the kernel holds in the buffers of all TCP sockets of this machine."""
    for line in _read("/proc/net/sockstat").splitlines():
        if line.startswith("TCP:"):
            fields = line.split()
            return int(fields[fields.index("mem") + 1]) * PAGE_BYTES
    raise RuntimeError("/proc/net/sockstat has no TCP")


def slab_bytes():
    """What the kernel's own objects take, sockets among them."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo has no Slab")


def cpu_of_others():
    """CPU seconds of this machine that neither we, nor our children that have ended, nor the kernel had.

    What the kernel's own threads do is mostly our traffic. What a hypervisor gave to its other guests is in it.
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
