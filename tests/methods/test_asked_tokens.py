"""Every method on a small language model: one word of each target is asked about, and passages have no labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from trakflow.methods.base import CheckpointsMethod, Trained
from trakflow.methods.dattri import Dattri
from trakflow.methods.ekfac import EKFAC
from trakflow.methods.gas import GradientAggregatedSimilarity
from trakflow.methods.influence_arnoldi import InfluenceArnoldi
from trakflow.methods.influence_function import InfluenceFunction
from trakflow.methods.representation_similarity import RepresentationSimilarity
from trakflow.methods.tracin import TracIn
from trakflow.methods.traker import Traker
from trakflow.tasks.language_modeling import IGNORED, LogOdds

pytestmark = pytest.mark.filterwarnings("ignore")

VOCABULARY, LENGTH, N, M = 7, 5, 12, 3
METHODS = {
    "tracin": TracIn,
    "gas": GradientAggregatedSimilarity,
    "influence_function": InfluenceFunction,
    "influence_arnoldi": lambda: InfluenceArnoldi(iterations=20, eigenvalues=5),
    "ekfac": EKFAC,
    "representation_similarity": lambda: RepresentationSimilarity(layer="3", signed=False),
    "traker": lambda: Traker(k=4, lambda_reg=0.1),
    "dattri": lambda: Dattri(k=4, regularization=0.1),
}
PACKAGES = {"ekfac": "kronfluence", "traker": "trak", "dattri": "dattri"}


class Words(nn.Sequential):
    """Says the next word by the last one."""

    def __init__(self):
        super().__init__(
            nn.Embedding(VOCABULARY, 4), nn.Linear(4, 8), nn.Tanh(), nn.Flatten(2), nn.Linear(8, VOCABULARY)
        )

    def forward(self, input_ids):
        return super().forward(input_ids)


def words(count, seed):
    return {"inputs": torch.randint(0, VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(seed))}


def asked(arrays):
    """Label the last word alone."""
    labels = arrays["inputs"].clone()
    labels[:, :-1] = IGNORED
    return {**arrays, "labels": labels}


@pytest.fixture
def trained():
    torch.manual_seed(0)
    return Trained(Words().eval(), LogOdds(), words(N, 1), asked(words(M, 2)), None, 0, 0, 4, 2**26, "cpu")


def scores(name, one):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    method = METHODS[name]()
    return np.asarray(method.scores([one] if isinstance(method, CheckpointsMethod) else one))


@pytest.mark.parametrize("name", METHODS)
def test_the_word_that_is_asked_about_is_attributed_although_training_examples_have_no_labels(name, trained):
    # What a passage without labels means, said by labels: then both sets have the same arrays.
    labelled = replace(trained, train={**trained.train, "labels": trained.train["inputs"]})
    found = scores(name, trained)
    np.testing.assert_allclose(found, scores(name, labelled), rtol=1e-4, atol=1e-5 * np.abs(found).max())
    if name != "representation_similarity":
        passages = scores(name, replace(trained, targets={"inputs": trained.targets["inputs"]}))
        assert np.abs(found - passages).max() > 0.1 * np.abs(found).max()
