# TRAK: features, kernels, ridge, scores.


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
    params:
        reads=reads("featurize"),
        examples=lambda wildcards: shard_range(settings.data.train_size, settings.shards, int(wildcards.shard)),
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
    message:
        "Featurize shard {wildcards.shard} by checkpoint {wildcards.checkpoint}."
    shell:
        "{PYTHON} {SCRIPTS}/featurize.py {HYDRA} runtime.threads={threads} job.log={log}"
        " job.checkpoint={wildcards.checkpoint} job.shard={wildcards.shard}"


rule featurize_targets:
    input:
        data=rules.prepare_targets.output,
        weights=layout.checkpoint("{checkpoint}"),
    output:
        layout.target_features("{checkpoint}"),
    log:
        log_of("featurize_targets/{checkpoint}"),
    benchmark:
        benchmark_of("featurize_targets/{checkpoint}")
    params:
        reads=reads("featurize_targets"),
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
    message:
        "Featurize the targets by checkpoint {wildcards.checkpoint}."
    shell:
        "{PYTHON} {SCRIPTS}/featurize_targets.py {HYDRA} runtime.threads={threads} job.log={log}"
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
    params:
        reads=reads("finalize"),
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
    message:
        "Factor the Gram matrix of checkpoint {wildcards.checkpoint}."
    shell:
        "{PYTHON} {SCRIPTS}/finalize.py {HYDRA} runtime.threads={threads} job.log={log}"
        " job.checkpoint={wildcards.checkpoint}"


rule choose_ridge:
    input:
        unpack(lambda wildcards: scored_parts(wildcards.checkpoints)),
        masks=lambda wildcards: [layout.checkpoint_mask(checkpoint) for checkpoint in range(int(wildcards.checkpoints))],
    output:
        layout.ridge("{checkpoints}"),
    log:
        log_of("choose_ridge/{checkpoints}"),
    benchmark:
        benchmark_of("choose_ridge/{checkpoints}")
    params:
        reads=reads("choose_ridge"),
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
    message:
        "Choose the ridge for {wildcards.checkpoints} checkpoints."
    shell:
        "{PYTHON} {SCRIPTS}/choose_ridge.py {HYDRA} runtime.threads={threads} job.log={log}"
        " job.count={wildcards.checkpoints}"


rule score:
    input:
        **scored_parts(TOTAL),
        ridge=layout.ridge(TOTAL),
        train=rules.prepare_train.output,
        data=rules.prepare_targets.output,
    output:
        published_scores(),
        provenance=layout.score_provenance,
        topk=layout.score_topk,
    log:
        log_of("score"),
    benchmark:
        benchmark_of("score")
    params:
        reads=reads("score"),
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
    message:
        "Score with all {TOTAL} checkpoints."
    shell:
        "{PYTHON} {SCRIPTS}/score.py {HYDRA} runtime.threads={threads} job.log={log} job.count={TOTAL}"


rule score_partial:
    input:
        unpack(lambda wildcards: scored_parts(wildcards.checkpoints)),
        ridge=layout.ridge("{checkpoints}"),
    output:
        layout.score_array("{checkpoints}", TOTAL),
    log:
        log_of("score_partial/{checkpoints}"),
    benchmark:
        benchmark_of("score_partial/{checkpoints}")
    params:
        version=reads("score")["version"],
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
    message:
        "Score with the first {wildcards.checkpoints} checkpoints."
    shell:
        "{PYTHON} {SCRIPTS}/score.py {HYDRA} runtime.threads={threads} job.log={log} job.count={wildcards.checkpoints}"
