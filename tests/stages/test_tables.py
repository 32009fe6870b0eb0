"""Tables of a results folder that are damaged."""

import pandas as pd
import pytest

from trakflow.errors import StoreError
from trakflow.stages.tables import read_table


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_read_whole_or_refused_in_a_sentence(tmp_path, suffix):
    path, table = tmp_path / f"a.{suffix}", pd.DataFrame({"target": [0, 1], "score": [0.5, -0.5]})
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    pd.testing.assert_frame_equal(read_table(path, ("score",)), table)
    with pytest.raises(StoreError, match="has no column lds"):
        read_table(path, ("score", "lds"))
    path.write_bytes(path.read_bytes()[:30] if suffix == "parquet" else b'"\xff')
    with pytest.raises(StoreError, match=r"cannot be read as a table.*Delete it"):
        read_table(path)
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read as a table"):
        read_table(path)
