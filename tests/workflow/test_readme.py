"""What the README shows is run: its own-model files and command as they stand, its other commands as dry runs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from run_snakemake import REPOSITORY, environment

README = (REPOSITORY / "README.md").read_text(encoding="utf8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


def write_own_model(folder: Path) -> None:
    files = dict(re.findall(r"<!-- file: (.*?) -->\n```\w+\n(.*?)```", README, re.S))
    assert set(files) == {"mine.py", "config/experiment/mine.yaml"}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf8")
    for seed, name in enumerate(("first.pt", "second.pt")):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        torch.save(model.state_dict(), folder / name)


def test_the_own_model_files_and_command_give_scores(tmp_path: Path) -> None:
    write_own_model(tmp_path)
    command = re.search(r"<!-- command -->\n```bash\n(.*?)\n```", README, re.S)[1]
    command = command.replace("path/to/trakflow/Snakefile", str(REPOSITORY / "Snakefile"))
    command = command.replace("snakemake ", f"{sys.executable} -m snakemake ", 1)
    done = shell(command, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    scores = np.load(tmp_path / "results/mine/scores/trak.npy")
    assert scores.shape == (1000, 20)
    assert np.abs(scores).max() > 0


def test_the_notebooks_lines_give_scores(tmp_path: Path) -> None:
    write_own_model(tmp_path)
    code = re.search(r"<!-- notebook -->\n```python\n(.*?)```", README, re.S)[1]
    (tmp_path / "notebook.py").write_text(f"{code}\nprint(scores.shape, abs(scores).max() > 0)\n", encoding="utf8")
    done = shell(f"{sys.executable} notebook.py", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "(1000, 20) True"


@pytest.mark.parametrize("line", [line for block in blocks("bash") for line in block.splitlines() if ".venv" in line])
def test_each_command_is_understood(line: str, tmp_path: Path) -> None:
    command = line.replace(".venv/bin/snakemake", f"{sys.executable} -m snakemake --directory {tmp_path}")
    done = shell(f"{command} --dry-run", REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "featurize" in done.stdout + done.stderr


def test_each_make_target_and_linked_file_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf8")
    targets = re.findall(r"^make ([a-z-]+)", "\n".join(blocks("bash")), re.M)
    assert targets == ["run", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M)
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (REPOSITORY / link).exists(), link
