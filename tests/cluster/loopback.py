"""A Slurm cluster of this machine alone: munge, slurmctld and slurmd as children of this process, on loopback.

It needs no root and no systemd: the daemons run as the user who starts them. Nodes cpu1 and cpu2 are in partition cpu;
gpu1, whose GPUs are device files that every machine has, is in partition gpu, as in workflow/profiles/slurm.
"""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Slurm's own programs, that Debian has where only root's PATH may look.
DAEMONS = ("munged", "mungekey", "slurmctld", "slurmd")
GPU_DEVICES = ("/dev/null", "/dev/zero")
NODES = ("cpu1", "cpu2", "gpu1")

# Polled memory, since cgroups may be out of reach here: a step over its memory is killed within two seconds.
CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={ports[slurmctld]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/task_prolog
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
EnforcePartLimits=ALL
MinJobAge=86400
ReturnToService=2
KillWait=5
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=DEFAULT CPUs=4 RealMemory=16000 State=UNKNOWN
NodeName=cpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[cpu1]}
NodeName=cpu2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[cpu2]}
NodeName=gpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[gpu1]} Gres=gpu:fake:2
PartitionName=cpu Nodes=cpu[1-2] Default=YES DefaultTime=60 MaxTime=1-0 State=UP
PartitionName=gpu Nodes=gpu1 DefaultTime=60 MaxTime=1-0 State=UP
"""

# What a job sees when its step starts.
TASK_PROLOG = """\
#!/bin/sh
echo "$SLURM_JOB_ID ${{CUDA_VISIBLE_DEVICES:-none}}" >> {folder}/devices.txt
"""


def wait_until(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Wait for something that another process brings about.

    Raises:
        AssertionError: It did not happen in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


class LoopbackCluster:
    """A running cluster. Its clients are called through `run`; jobs and Snakemake take `environment`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self._configure()
        key = self.folder / "munge.key"
        subprocess.run([self._program("mungekey"), "--create", f"--keyfile={key}"], check=True)
        self._spawn(
            "munged",
            "--foreground",
            f"--key-file={key}",
            f"--socket={self.folder / 'munge.socket'}",
            f"--pid-file={self.folder / 'munged.pid'}",
            f"--log-file={self.folder / 'munged.log'}",
            f"--seed-file={self.folder / 'munged.seed'}",
        )
        wait_until((self.folder / "munge.socket").exists, "munged's socket", 20)
        self._spawn("slurmctld", "-D")
        for node in NODES:
            self._spawn("slurmd", "-D", "-N", node, name=node)
        wait_until(lambda: set(self.states().values()) == {"idle"}, "every node idle", 60)

    def stop(self) -> None:
        """Cancel the jobs, whose steps would outlive their node's slurmd, and end the daemons in reverse order."""
        if "slurmctld" in self._daemons:
            self.run("scancel", "--user", getpass.getuser(), check=False)
            wait_until(lambda: not self.run("squeue", "--noheader", "--states=R,CG", check=False), "jobs cancelled", 60)
        for daemon in reversed(self._daemons.values()):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def states(self) -> dict[str, str]:
        lines = self.run("sinfo", "--noheader", "-N", "-o", "%N %T", check=False).splitlines()
        return dict(line.split() for line in lines)

    def jobs(self) -> list[dict[str, str]]:
        """Every job since the start, oldest first, with scontrol's names."""
        lines = self.run("scontrol", "show", "job", "--oneliner", "--details").splitlines()
        found = [dict(re.findall(r"(\w[\w/:]*)=(\S*)", line)) for line in lines if "JobId=" in line]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def devices(self) -> dict[str, str]:
        """CUDA_VISIBLE_DEVICES of each job, as its step saw it."""
        lines = (self.folder / "devices.txt").read_text(encoding="utf8").splitlines()
        return dict(line.split() for line in lines)

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        ports = dict(zip(("slurmctld", *NODES), _free_ports(1 + len(NODES)), strict=True))
        facts = {"folder": self.folder, "host": host, "user": getpass.getuser(), "ports": ports}
        self.folder.chmod(0o755)  # munged refuses a socket that not everyone could reach
        (self.folder / "state").mkdir()
        (self.folder / "bin").mkdir()
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**facts), encoding="utf8")
        gpus = [f"NodeName=gpu1 Name=gpu Type=fake File={device}\n" for device in GPU_DEVICES]
        (self.folder / "gres.conf").write_text("".join(gpus), encoding="utf8")
        _write_program(self.folder / "task_prolog", TASK_PROLOG.format(**facts))
        # The plugin takes every SLURM_ variable from the srun inside a job, SLURM_CONF too; without it, srun looks only
        # where root could have put a configuration.
        found = self._program("srun")
        _write_program(self.folder / "bin/srun", f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {found} "$@"\n')

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found, f"{name} is not installed: run `make cluster-test`, which installs it"
        return found

    def _spawn(self, program: str, *arguments: str, name: str | None = None) -> None:
        log = (self.folder / f"{name or program}.out").open("wb")
        self._daemons[name or program] = subprocess.Popen(
            [self._program(program), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def running_cluster(folder: Path) -> Iterator[LoopbackCluster]:
    """Start a cluster in a folder, and stop it afterwards, whatever happens."""
    cluster = LoopbackCluster(folder)
    terminated = signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # or the daemons would outlive this
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        signal.signal(signal.SIGTERM, terminated)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _write_program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf8")
    path.chmod(0o755)
