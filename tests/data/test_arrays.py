import numpy as np
import pytest

from trakflow.data.arrays import read_array
from trakflow.errors import DataError


def test_a_plain_array_is_read(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(read_array(str(tmp_path / "a.npy"), "evaluation.masks"), [[0, 1, 2], [3, 4, 5]])


def test_what_is_missing_damaged_or_pickled_is_refused_by_the_name_of_its_setting(tmp_path):
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "cut.npy", np.arange(100))
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("0,1,1")
    cases = [tmp_path / f"{name}.npy" for name in ("pickled", "empty", "text", "missing")]
    for length in (3, 7, 20, len(whole) // 2, len(whole) - 1):
        (tmp_path / f"cut{length}.npy").write_bytes(whole[:length])
        cases.append(tmp_path / f"cut{length}.npy")
    for path in cases:
        with pytest.raises(DataError, match=rf"evaluation\.masks: {path}"):
            read_array(str(path), "evaluation.masks")
