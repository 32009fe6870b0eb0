import pytest

from trakflow.errors import ConfigError
from trakflow.extras import import_extra


def test_a_package_that_is_there_is_imported():
    assert import_extra("json", "text").dumps([1]) == "[1]"


def test_a_package_that_is_not_names_its_extra():
    with pytest.raises(ConfigError, match=r"needs the package no_such_package, .* pip install --editable '\.\[text\]'"):
        import_extra("no_such_package", "text")


def test_what_a_package_itself_lacks_is_not_its_absence(tmp_path, monkeypatch):
    (tmp_path / "needs_another.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        import_extra("needs_another", "text")
