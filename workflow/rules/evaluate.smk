# The linear datamodeling score: subsets, retrained models, the table.


def evaluation_inputs():
    """Masks and outputs: made here, or the user's own files."""
    if settings.evaluation.source == "files":
        return {"masks": settings.evaluation.masks, "outputs": settings.evaluation.outputs}
    return {
        "masks": [layout.subsets(batch) for batch in BATCHES],
        "outputs": [layout.retrained_outputs(retrain, batch) for retrain in RETRAINS for batch in BATCHES],
    }


def subset_range(wildcards):
    """First and last index of the subsets in a batch."""
    chosen = batch_indices(
        settings.evaluation.subsets, settings.evaluation.models_per_batch, int(wildcards.batch)
    )
    return chosen.start, chosen.stop


if settings.evaluation.source == "retrain":

    rule subsets:
        output:
            layout.subsets("{batch}"),
        log:
            log_of("subsets/{batch}"),
        benchmark:
            benchmark_of("subsets/{batch}")
        params:
            reads=reads("subsets"),
            subsets=subset_range,
        threads: 1
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
        message:
            "Draw batch {wildcards.batch} of the evaluation subsets."
        shell:
            "{PYTHON} {SCRIPTS}/subsets.py {HYDRA} job.log={log} job.batch={wildcards.batch}"

    rule retrain:
        input:
            data=rules.prepare_train.output,
            masks=rules.subsets.output,
        output:
            layout.retrained("{retrain}", "{batch}"),
        log:
            log_of("retrain/{retrain}.{batch}"),
        benchmark:
            benchmark_of("retrain/{retrain}.{batch}")
        params:
            reads=reads("retrain"),
        threads: settings.runtime.threads
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
        message:
            "Retrain models on batch {wildcards.batch} of the subsets, run {wildcards.retrain}."
        shell:
            "{PYTHON} {SCRIPTS}/retrain.py {HYDRA} runtime.threads={threads} job.log={log}"
            " job.retrain={wildcards.retrain} job.batch={wildcards.batch}"

    rule retrained_outputs:
        input:
            models=rules.retrain.output,
            data=rules.prepare_targets.output,
        output:
            layout.retrained_outputs("{retrain}", "{batch}"),
        log:
            log_of("retrained_outputs/{retrain}.{batch}"),
        benchmark:
            benchmark_of("retrained_outputs/{retrain}.{batch}")
        params:
            reads=reads("retrained_outputs"),
        threads: settings.runtime.threads
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
        message:
            "Outputs of the models retrained on batch {wildcards.batch}, run {wildcards.retrain}."
        shell:
            "{PYTHON} {SCRIPTS}/retrained_outputs.py {HYDRA} runtime.threads={threads} job.log={log}"
            " job.retrain={wildcards.retrain} job.batch={wildcards.batch}"


if EVALUATED:

    rule evaluate:
        input:
            **evaluation_inputs(),
            scores=[layout.score_array(count, TOTAL) for count in COUNTS],
            ridges=[layout.ridge(count) for count in COUNTS],
            features=scored_parts(TOTAL)["features"],
        output:
            layout.lds,
        log:
            log_of("evaluate"),
        benchmark:
            benchmark_of("evaluate")
        params:
            reads=reads("evaluate"),
        threads: settings.runtime.threads
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
        message:
            "Evaluate the linear datamodeling score."
        shell:
            "{PYTHON} {SCRIPTS}/evaluate.py {HYDRA} runtime.threads={threads} job.log={log}"
