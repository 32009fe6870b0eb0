from pathlib import Path

import numpy as np
import pytest

from trakflow.errors import StoreError
from trakflow.evaluation.retrained import read_batches, read_retrained
from trakflow.stages.describe import describe
from trakflow.stages.evaluate import evaluation_data, subsets
from trakflow.stages.retrain import retrain, retrained_outputs


@pytest.fixture
def retrained(experiment):
    run = experiment().prepare()
    for batch in range(2):
        run.run(subsets, batch=batch)
        for number in range(2):
            run.run(retrain, retrain=number, batch=batch)
            run.run(retrained_outputs, retrain=number, batch=batch)
    return run


def test_everything_in_a_folder_is_what_the_evaluation_reads(retrained):
    # As a job leaves behind that is killed.
    Path(retrained.layout.subsets(0)).with_name(".7.abcd.safetensors").touch()
    masks, outputs = read_retrained(retrained.layout.root)
    assert masks.shape == (6, 60)
    assert outputs.shape == (2, 6, 7)
    expected = evaluation_data(retrained.config, retrained.layout)
    np.testing.assert_array_equal(masks, expected[0])
    np.testing.assert_array_equal(outputs, expected[1])


def test_outputs_of_more_retrains_than_the_folder_is_configured_with_are_left_out(retrained):
    retrained.configure("evaluation.retrains=1", "evaluation.subsets=4").run(describe)
    masks, outputs = read_retrained(retrained.layout.root)
    assert masks.shape == (4, 60)
    assert outputs.shape == (1, 4, 7)
    retrained.configure("evaluation=none").run(describe)
    with pytest.raises(StoreError, match="evaluation=retrain"):
        read_retrained(retrained.layout.root)


@pytest.mark.parametrize("text", ["", "evaluation: 3", "a: &a [1]\nb: *a", "evaluation: {source: retrain}"])
def test_a_configuration_that_the_workflow_did_not_write_is_refused(retrained, text):
    Path(retrained.layout.config).write_text(text, encoding="utf8")
    with pytest.raises(StoreError, match=r"config\.yaml cannot be read"):
        read_retrained(retrained.layout.root)


def test_a_folder_without_retrained_models_says_so(tmp_path):
    with pytest.raises(StoreError, match="evaluation=retrain"):
        read_retrained(tmp_path)


def test_outputs_of_other_subsets_are_refused(retrained):
    retrained.configure("evaluation.fraction=0.4").run(subsets, batch=1)
    with pytest.raises(StoreError, match="other subsets"):
        read_batches(retrained.layout, 2, 2)
