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
    conda:
        ENVIRONMENT
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
        gpu=GPUS,
        script=script("featurize"),
    params:
        reads=reads("featurize"),
        examples=lambda wildcards: shard_range(
            settings.data.train_size, settings.shards, int(wildcards.shard)
        ),
    message:
        "Featurize shard {wildcards.shard} by checkpoint {wildcards.checkpoint}."
    shell:
        "{resources.script} runtime.threads={threads} job.log={log}"
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
    conda:
        ENVIRONMENT
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
        gpu=GPUS,
        script=script("featurize_targets"),
    params:
        reads=reads("featurize_targets"),
    message:
        "Featurize the targets by checkpoint {wildcards.checkpoint}."
    shell:
        "{resources.script} runtime.threads={threads} job.log={log}"
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
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
        script=script("finalize"),
    params:
        reads=reads("finalize"),
    message:
        "Factor the Gram matrix of checkpoint {wildcards.checkpoint}."
    shell:
        "{resources.script} runtime.threads={threads} job.log={log}"
        " job.checkpoint={wildcards.checkpoint}"


rule choose_ridge:
    input:
        unpack(lambda wildcards: scored_parts(wildcards.checkpoints)),
        masks=lambda wildcards: [
            layout.checkpoint_mask(checkpoint)
            for checkpoint in range(int(wildcards.checkpoints))
            if settings.checkpoints.on_subsets
        ],
        train=rules.prepare_train.output,
        data=rules.prepare_targets.output,
    output:
        layout.ridge("{checkpoints}"),
    log:
        log_of("choose_ridge/{checkpoints}"),
    benchmark:
        benchmark_of("choose_ridge/{checkpoints}")
    conda:
        ENVIRONMENT
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
        script=script("choose_ridge"),
    params:
        reads=reads("choose_ridge"),
    message:
        "Choose the ridge for {wildcards.checkpoints} checkpoints."
    shell:
        "{resources.script} runtime.threads={threads} job.log={log}"
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
    conda:
        ENVIRONMENT
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
        script=script("score"),
    params:
        reads=reads("score"),
    message:
        f"Score with all {TOTAL} checkpoints."
    shell:
        "{resources.script} runtime.threads={threads} job.log={log}"


rule score_partial:
    input:
        unpack(lambda wildcards: scored_parts(wildcards.checkpoints)),
        ridge=layout.ridge("{checkpoints}"),
        train=rules.prepare_train.output,
        data=rules.prepare_targets.output,
    output:
        layout.score_array("{checkpoints}", TOTAL),
    log:
        log_of("score_partial/{checkpoints}"),
    benchmark:
        benchmark_of("score_partial/{checkpoints}")
    conda:
        ENVIRONMENT
    threads: settings.runtime.threads
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
        script=script("score"),
    params:
        version=reads("score")["version"],
    message:
        "Score with the first {wildcards.checkpoints} checkpoints."
    shell:
        "{resources.script} runtime.threads={threads} job.log={log} job.count={wildcards.checkpoints}"
