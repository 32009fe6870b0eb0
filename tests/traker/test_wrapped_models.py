"""A TRAKer of a wrapped model goes on where one of the plain model stopped."""

import numpy as np
import pytest
import torch
from torch.nn.parallel import DataParallel
from traker_problem import checkpoints, featurize, model, score, scores, traker


@pytest.mark.parametrize("wrap", [torch.compile, DataParallel])
def test_scores_are_those_of_the_plain_model_in_the_same_save_dir(tmp_path, wrap):
    expected = scores(tmp_path / "plain")
    states = []
    for state in checkpoints():
        wrapped = wrap(model())
        prefix = next(iter(wrapped.state_dict())).removesuffix(next(iter(state)))
        states.append({prefix + name: value for name, value in state.items()})
    first = featurize(traker(tmp_path / "mixed"), checkpoints()[:1])
    assert first.model_ids == [0]
    attributor = featurize(traker(tmp_path / "mixed", model=wrap(model())), states)
    attributor.finalize_features()
    np.testing.assert_array_equal(np.array(score(attributor, states)), expected)
