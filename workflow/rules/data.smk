# The data set, as checked arrays on disk; and the resolved configuration.


rule describe:
    output:
        layout.config,
    log:
        log_of("describe"),
    benchmark:
        benchmark_of("describe")
    conda:
        ENVIRONMENT
    container:
        IMAGE
    threads: 1
    resources:
        mem_mb=memory,
        runtime=minutes,
        scripts=SCRIPTS,
        experiment=HYDRA,
    # The one rule that records the whole configuration; it is a leaf, so nothing follows from its rerun.
    params:
        reads=WHOLE,
    message:
        "Write down the configuration."
    shell:
        "{resources.scripts}/describe.py {resources.experiment} runtime.threads={threads} job.log={log}"


rule prepare_train:
    input:
        brought_files(settings.data.files),
    output:
        layout.train,
    log:
        log_of("prepare_train"),
    benchmark:
        benchmark_of("prepare_train")
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
        reads=reads("prepare_train"),
    message:
        "Prepare the training examples."
    shell:
        "{resources.scripts}/prepare_train.py {resources.experiment} runtime.threads={threads} job.log={log}"


rule prepare_targets:
    input:
        brought_files(settings.data.files),
        # Only a predicted label needs the checkpoints; it must be the same for all of them.
        checkpoints=(
            [layout.checkpoint(checkpoint) for checkpoint in CHECKPOINTS]
            if settings.targets.output == "predicted"
            else []
        ),
    output:
        layout.targets,
    log:
        log_of("prepare_targets"),
    benchmark:
        benchmark_of("prepare_targets")
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
        reads=reads("prepare_targets"),
    message:
        "Prepare the targets."
    shell:
        "{resources.scripts}/prepare_targets.py {resources.experiment} runtime.threads={threads} job.log={log}"
