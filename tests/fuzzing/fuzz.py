"""Fuzzes the readers of files by atheris: `make fuzz`, or `python tests/fuzzing/fuzz.py --seconds 60 checkpoint npy`.

Each reader has a process of its own and an equal part of the time. Its corpus is kept in build/fuzz and begins with
whole files. A file that makes a reader raise anything but a refusal, run a program, take more than 2 GiB or hang is
kept there too, and the exit code is 1.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

BUILD = Path("build/fuzz")
# Nothing that reads a file may cause these.
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
)
INSTRUMENTED = ["readers", "trakflow", "tarfile", "zipfile", "json", "csv", "yaml", "gzip"]
LIMITS = ["-timeout=30", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=1"]


def forbid() -> None:
    """Make running anything an error that no reader may hide."""

    def hook(event: str, _: object) -> None:
        if event in FORBIDDEN:
            sys.stderr.write(f"a reader caused {event}\n")
            sys.stderr.flush()
            import os

            os.abort()

    sys.addaudithook(hook)


def fuzz(name: str, options: list[str]) -> None:
    """Fuzz one reader in this process, which does not return."""
    # Before the others, or all of torch would be instrumented, which takes minutes; its unpickler is enough.
    import atheris
    import torch._weights_only_unpickler as unpickling

    unpickling.Unpickler.load = atheris.instrument_func(unpickling.Unpickler.load)
    with atheris.instrument_imports(include=INSTRUMENTED):
        import readers

    reader = readers.READERS[name]
    corpus = BUILD / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
        # What is imported late is imported now, before it counts as found.
        reader(seed)
    forbid()
    atheris.Setup([sys.argv[0], str(corpus), *options], reader)
    atheris.Fuzz()


def run(name: str, seconds: int) -> str | None:
    """Fuzz one reader in a process of its own and print how it went; returns what was found."""
    command = [
        sys.executable,
        __file__,
        "--here",
        name,
        f"-max_total_time={seconds}",
        f"-artifact_prefix={BUILD}/{name}-",
    ]
    done = subprocess.run([*command, *LIMITS], capture_output=True, text=True, errors="replace", check=False)
    stats = dict(re.findall(r"stat::(\w+): +(\d+)", done.stderr))
    units, pace = int(stats.get("number_of_executed_units", 0)), stats.get("average_exec_per_sec", "?")
    how = f"peak memory {stats.get('peak_rss_mb', '?')} MiB, exit code {done.returncode}"
    print(f"{name}: {units:,} executions, {pace} a second, {how}", flush=True)
    return done.stderr[-4000:] if done.returncode else None


def main() -> int:
    """Fuzz all readers, or those that are named."""
    import readers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(readers.READERS)}; default: all")
    parser.add_argument("--seconds", type=int, default=300, help="for all of them together")
    arguments = parser.parse_args()
    names = arguments.readers or list(readers.READERS)
    BUILD.mkdir(parents=True, exist_ok=True)
    found = {name: run(name, max(1, arguments.seconds // len(names))) for name in names}
    for name, report in found.items():
        if report is not None:
            print(f"\n{name}:\n{report}")
    return int(any(report is not None for report in found.values()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        fuzz(sys.argv[2], sys.argv[3:])
    sys.exit(main())
