"""The user's own code is part of the configuration; installed code is not."""

import sys
from pathlib import Path

import pytest

from trakflow.config.user_code import with_source


def test_a_changed_module_of_the_users_changes_the_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "users_own_module.py"
    module.write_text("def make():\n    return 1\n", encoding="utf8")
    component = {"_target_": "users_own_module.make", "size": 3}
    first = with_source(component)
    assert first["size"] == 3
    assert "users_own_module" not in sys.modules
    assert with_source(component) == first
    module.write_text("def make():\n    return 2\n", encoding="utf8")
    assert with_source(component)["_source_"] != first["_source_"]


@pytest.mark.parametrize("target", ["trakflow.models.mlp.MLP", "torch.nn.Linear", "json.loads", "builtins.dict"])
def test_installed_code_is_not_hashed(target: str) -> None:
    assert with_source({"_target_": target}) == {"_target_": target}


@pytest.fixture
def inner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A component of the user's."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "users_inner_module.py").write_text("def make():\n    return 1\n", encoding="utf8")
    return {"_target_": "users_inner_module.make"}


def test_a_component_among_the_arguments_of_another_is_followed(inner: dict[str, str]) -> None:
    outer = {"_target_": "trakflow.data.mislabelled.mislabelled", "examples": inner, "num_classes": 3}
    assert with_source(outer) == {**outer, "examples": with_source(inner)}
    assert "_source_" in with_source(inner)


def test_components_in_lists_and_mappings_of_arguments_are_followed(inner: dict[str, str]) -> None:
    outer = {"_target_": "torch.nn.Linear", "transforms": [inner, 3], "options": {"augment": inner}}
    found = with_source(inner)
    assert with_source(outer) == {**outer, "transforms": [found, 3], "options": {"augment": found}}
