"""The notebook, run as it stands on a small finished run of the workflow."""

import json
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from run_snakemake import REPOSITORY

NOTEBOOK = REPOSITORY / "examples" / "quickstart.ipynb"


def test_the_notebook_runs_and_gives_a_figure_and_an_lds(finished: Path, tmp_path: Path) -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    folders = {"results": finished / "results" / "digits", "attributions": tmp_path / "attributions"}
    parameters.source = "from pathlib import Path\n" + "".join(
        f"{name} = Path({str(path)!r})\n" for name, path in folders.items()
    )
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = "".join(output.get("text", "") for output in outputs)
    found = re.search(r"LDS (-?[0-9.]+) \[(-?[0-9.]+), (-?[0-9.]+)\] with 3 checkpoints, 8 subsets, 2 retrains", text)
    assert found, text
    value, low, high = map(float, found.groups())
    assert low <= value <= high


def test_the_notebook_is_committed_without_machine_or_outputs() -> None:
    book = json.loads(NOTEBOOK.read_text(encoding="utf8"))
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in book["cells"])
