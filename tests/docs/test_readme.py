"""What the README shows is run: its own-model files and command as they stand, its other commands as dry runs."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import Page, plan
from run_snakemake import REPOSITORY

README = Page(REPOSITORY / "README.md")


def test_the_own_model_and_the_notebooks_lines_give_scores(tmp_path: Path) -> None:
    assert set(README.files) == {"mine.py", "config/experiment/mine.yaml"}
    README.write_files(tmp_path)
    for seed, name in enumerate(("first.pt", "second.pt")):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        torch.save(model.state_dict(), tmp_path / name)
    README.run_program(tmp_path)
    for path in ("results/mine/scores/trak.npy", "attributions/scores/digits.npy"):
        scores = np.load(tmp_path / path)
        assert scores.shape == (1000, 20)
        assert np.abs(scores).max() > 0


@pytest.mark.parametrize("line", [line for line in README.commands if ".venv" in line])
def test_each_command_is_understood(line: str, tmp_path: Path) -> None:
    assert "featurize" in plan(line, tmp_path)


def test_each_make_target_and_linked_file_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf8")
    targets = re.findall(r"^make ([a-z-]+)", "\n".join(README.commands), re.M)
    assert targets == ["run", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M)
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README.text):
        assert (REPOSITORY / link).exists(), link
