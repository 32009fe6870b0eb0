"""How many jobs a method is: by what it reads, and by the numbers that it is evaluated with."""

from run_snakemake import TINY, overrides, planned

METHODS = {
    "methods": "[trak,tracin,gas,traker,empirical_influence]",
    "method.gas.counts": "[1,2]",
    "method.traker.counts": "[1,3]",
    "fitting.subsets": 24,
    "method.empirical_influence.counts": "[12]",
    "evaluation.models_per_batch": 16,
}


def test_no_more_is_attributed_or_retrained_than_the_counts_need(tmp_path):
    jobs = planned(tmp_path, overrides(TINY, METHODS))
    # Three by tracin and two by gas; all subsets of the evaluation are one batch, as is all that is fitted.
    assert jobs["attribute_checkpoint"] == 5
    assert jobs["attribute_checkpoints"] == 2
    assert jobs["subsets"] == 2
    assert jobs["retrain"] == 3
    assert {name for name in jobs if name.startswith("attribute_")} == {
        "attribute_checkpoint",
        "attribute_checkpoints",
        *(f"attribute_{method}" for method in ("tracin", "gas", "traker", "empirical_influence")),
    }
