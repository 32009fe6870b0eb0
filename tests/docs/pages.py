"""Pages of the documentation as programs: the files, Python blocks and commands that they show.

A comment on the line before a block says what it is: `<!-- file: NAME -->` a file, `<!-- output -->` lines that the
Python before it prints, `<!-- command -->` a command to run and not only to plan.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from run_snakemake import REPOSITORY, environment

BLOCK = re.compile(r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
CHECKOUT = "path/to/trakflow"


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        mark: The comment on the line before it, or nothing.
        language: What it is written in.
        code: Its lines.
        line: Number of its first line in the page.
    """

    mark: str
    language: str
    code: str
    line: int


class Page:
    """A page of the repository.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path):
        self.path = path
        self.text = path.read_text(encoding="utf8")

    @property
    def blocks(self) -> list[Block]:
        """All fenced blocks, from first to last."""
        return [
            Block(found["mark"] or "", found["language"], found["code"], self.text.count("\n", 0, found.start("code")))
            for found in BLOCK.finditer(self.text)
        ]

    @property
    def files(self) -> dict[str, str]:
        """The files that it shows."""
        return {
            block.mark.removeprefix("file: "): block.code for block in self.blocks if block.mark.startswith("file: ")
        }

    @property
    def program(self) -> str:
        """Its Python and the commands to run, in order; each line at the number that it has in the page."""
        lines = [""] * self.text.count("\n")
        for block in self.blocks:
            code = block.code.splitlines()
            if block.mark == "command":
                command = here(block.code.replace("\\\n", " ").strip())
                lines[block.line] = f"__import__('subprocess').run({command!r}, shell=True, check=True)"
            elif block.language == "python" and not block.mark.startswith("file: "):
                lines[block.line : block.line + len(code)] = code
        return "\n".join(lines) + "\n"

    @property
    def outputs(self) -> list[str]:
        """What it says that its program prints."""
        return [block.code for block in self.blocks if block.mark == "output"]

    @property
    def commands(self) -> list[str]:
        """The lines of its shell blocks, but for commands that are a part of the program."""
        return [
            line
            for block in self.blocks
            if block.language in ("bash", "sh") and block.mark != "command"
            for line in block.code.replace("\\\n", " ").splitlines()
            if line.strip()
        ]

    def write_files(self, folder: Path) -> None:
        """Write the files that it shows."""
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf8")

    def run_program(self, folder: Path, timeout: float = 300) -> str:
        """Run its Python in a folder and return what that printed."""
        (folder / "page.py").write_text(self.program, encoding="utf8")
        # The page's own seeds come after; this is for what it leaves to chance.
        seeded = "import runpy, torch; torch.manual_seed(0); runpy.run_path('page.py', run_name='__main__')"
        done = subprocess.run(
            [sys.executable, "-c", seeded],
            cwd=folder,
            env={**environment(), "MPLBACKEND": "agg", "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{self.path} (line numbers are the page's):\n{done.stderr[-4000:]}"
        return done.stdout


def here(command: str) -> str:
    """Return a command of a page with the Snakemake of this environment and this checkout."""
    command = command.replace(CHECKOUT, str(REPOSITORY))
    # -P, as the `snakemake` command does not search the working folder for modules either.
    return re.sub(r"^(?:\.venv/bin/)?snakemake ", f"{sys.executable} -P -m snakemake ", command)


def plan(command: str, folder: Path) -> str:
    """Return what Snakemake says that a command of a page would do.

    A command of the checkout's own environment (`.venv/bin/snakemake`) is given in the checkout, any other in `folder`,
    where the page's files are.
    """
    # A report of what has not been made is refused.
    command = re.sub(r" --report \S+ --report-after-run", "", command)
    dry = command if "--dry-run" in command else f"{command} --dry-run"
    own = command.startswith(".venv/bin/")
    done = subprocess.run(
        here(f"{dry} --directory {folder}" if own else dry),
        shell=True,
        cwd=REPOSITORY if own else folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def make_targets(command: str) -> list[str]:
    """Return the targets that a `make` command names."""
    return [word for word in command.partition("#")[0].split()[1:] if "=" not in word and not word.startswith("-")]
