# TRAK: features, kernels, ridge, scores.


if settings.features_from is None:

    rule featurize:
        input:
            data=rules.prepare_train.output,
            weights=layout.checkpoint("{checkpoint}"),
        output:
            layout.features("{checkpoint}", "{shard}"),
        log:
            log_of("featurize/{checkpoint}.{shard}"),
        benchmark:
            benchmark_of("featurize/{checkpoint}.{shard}")
        conda:
            ENVIRONMENT
        container:
            IMAGE
        threads: settings.runtime.threads
        resources:
            mem_mb=memory,
            runtime=minutes,
            gpu=gpus,
            scripts=SCRIPTS,
            experiment=HYDRA,
        params:
            reads=reads("featurize"),
            examples=lambda wildcards: shard_range(
                settings.data.train_size, settings.shards, int(wildcards.shard)
            ),
        message:
            "Featurize shard {wildcards.shard} by checkpoint {wildcards.checkpoint}."
        shell:
            "{resources.scripts}/featurize.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.checkpoint={wildcards.checkpoint} job.shard={wildcards.shard}"

else:

    rule import_features:
        input:
            lambda wildcards: [
                brought(path)
                for path in sorted(
                    Path(settings.features_from).glob(
                        f"features/{wildcards.checkpoint}/[0-9]*.safetensors"
                    )
                )
            ],
            data=rules.prepare_train.output,
            weights=layout.checkpoint("{checkpoint}"),
        output:
            layout.features("{checkpoint}", "{shard}"),
        log:
            log_of("import_features/{checkpoint}.{shard}"),
        benchmark:
            benchmark_of("import_features/{checkpoint}.{shard}")
        conda:
            ENVIRONMENT
        container:
            IMAGE
        threads: settings.runtime.threads
        resources:
            mem_mb=memory,
            runtime=minutes,
            gpu=gpus,
            scripts=SCRIPTS,
            experiment=HYDRA,
        params:
            reads=reads("import_features"),
            examples=lambda wildcards: shard_range(
                settings.data.train_size, settings.shards, int(wildcards.shard)
            ),
        message:
            f"Take shard {{wildcards.shard}} of checkpoint {{wildcards.checkpoint}} from {settings.features_from}."
        shell:
            "{resources.scripts}/import_features.py {resources.experiment} runtime.threads={threads} job.log={log}"
            " job.checkpoint={wildcards.checkpoint} job.shard={wildcards.shard}"


rule featurize_targets:
    input:
        data=rules.prepare_targets.output,
        train=rules.prepare_train.output,
        weights=layout.checkpoint("{checkpoint}"),
    output:
        layout.target_features("{checkpoint}"),
    log:
        log_of("featurize_targets/{checkpoint}"),
    benchmark:
        benchmark_of("featurize_targets/{checkpoint}")
    conda:
        ENVIRONMENT
    container:
        IMAGE
    threads: settings.runtime.threads
    resources:
        mem_mb=memory,
        runtime=minutes,
        gpu=gpus,
        scripts=SCRIPTS,
        experiment=HYDRA,
    params:
        reads=reads("featurize_targets"),
    message:
        "Featurize the targets by checkpoint {wildcards.checkpoint}."
    shell:
        "{resources.scripts}/featurize_targets.py {resources.experiment} runtime.threads={threads} job.log={log}"
        " job.checkpoint={wildcards.checkpoint}"


rule finalize:
    input:
        lambda wildcards: features_of(wildcards.checkpoint),
    output:
        layout.kernel("{checkpoint}"),
    log:
        log_of("finalize/{checkpoint}"),
    benchmark:
        benchmark_of("finalize/{checkpoint}")
    conda:
        ENVIRONMENT
    container:
        IMAGE
    threads: settings.runtime.threads
    resources:
        mem_mb=memory,
        runtime=minutes,
        scripts=SCRIPTS,
        experiment=HYDRA,
    params:
        reads=reads("finalize"),
    message:
        "Factor the Gram matrix of checkpoint {wildcards.checkpoint}."
    shell:
        "{resources.scripts}/finalize.py {resources.experiment} runtime.threads={threads} job.log={log}"
        " job.checkpoint={wildcards.checkpoint}"


rule choose_ridge:
    input:
        scored_parts(TOTAL),
        masks=checkpoint_masks(TOTAL),
        train=rules.prepare_train.output,
        data=rules.prepare_targets.output,
    output:
        layout.ridge(TOTAL),
    log:
        log_of("choose_ridge"),
    benchmark:
        benchmark_of("choose_ridge")
    conda:
        ENVIRONMENT
    container:
        IMAGE
    threads: settings.runtime.threads
    resources:
        mem_mb=memory,
        runtime=minutes,
        scripts=SCRIPTS,
        experiment=HYDRA,
    params:
        reads=reads("choose_ridge"),
    message:
        f"Choose the ridge for all {TOTAL} checkpoints."
    shell:
        "{resources.scripts}/choose_ridge.py {resources.experiment} runtime.threads={threads} job.log={log}"


rule score:
    input:
        scored_parts(TOTAL),
        ridge=layout.ridge(TOTAL),
        train=rules.prepare_train.output,
        data=rules.prepare_targets.output,
    output:
        published_scores(),
        published_groups(),
        provenance=layout.score_provenance,
        topk=layout.score_topk,
    log:
        log_of("score"),
    benchmark:
        benchmark_of("score")
    conda:
        ENVIRONMENT
    container:
        IMAGE
    threads: settings.runtime.threads
    resources:
        mem_mb=memory,
        runtime=minutes,
        scripts=SCRIPTS,
        experiment=HYDRA,
    params:
        reads=reads("score"),
    message:
        f"Score with all {TOTAL} checkpoints."
    shell:
        "{resources.scripts}/score.py {resources.experiment} runtime.threads={threads} job.log={log}"


# One job for all smaller numbers of checkpoints: each takes less than starting a process.
if PARTIAL_COUNTS:

    rule score_partial:
        input:
            scored_parts(PARTIAL_COUNTS[-1]),
            masks=checkpoint_masks(PARTIAL_COUNTS[-1]),
            train=rules.prepare_train.output,
            data=rules.prepare_targets.output,
        output:
            ridges=[layout.ridge(count) for count in PARTIAL_COUNTS],
            scores=[layout.score_array(count, TOTAL) for count in PARTIAL_COUNTS],
        log:
            log_of("score_partial"),
        benchmark:
            benchmark_of("score_partial")
        conda:
            ENVIRONMENT
        container:
            IMAGE
        threads: settings.runtime.threads
        resources:
            mem_mb=memory,
            runtime=minutes,
            scripts=SCRIPTS,
            experiment=HYDRA,
        params:
            reads=reads("choose_ridge"),
            version=reads("score")["version"],
        message:
            f"Choose the ridge and score with the first {PARTIAL_COUNTS} checkpoints."
        shell:
            "{resources.scripts}/score_partial.py {resources.experiment} runtime.threads={threads} job.log={log}"
