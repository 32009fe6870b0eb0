# Figures: svg for the report, png and csv beside it.


def drawn(name):
    """The other forms of a figure."""
    return {"png": layout.figure(name, "png"), "table": layout.figure(name, "csv")}


def caption_facts():
    """What the captions name: seed, checkpoints, sketch and subsets."""
    return {
        "experiment": choice.experiment,
        "seed": settings.seed,
        "checkpoints": TOTAL,
        "on_subsets": settings.checkpoints.on_subsets,
        "sketch": settings.sketch.name,
        "k": settings.sketch.k,
        "weights": settings.solver.weights,
        "subsets": settings.evaluation.subsets if settings.evaluation.source == "retrain" else None,
        "retrains": settings.evaluation.retrains if settings.evaluation.source == "retrain" else None,
        "confidence": settings.evaluation.confidence,
    }


def shown(name, category, figure):
    """A figure in the report, with its caption and labels."""
    return report(
        layout.figure(name, "svg"),
        caption=str(CAPTIONS / f"{name}.rst"),
        category=category,
        labels={"experiment": choice.experiment, "figure": figure},
    )


rule draw_gallery:
    input:
        topk=layout.score_topk,
        train=rules.prepare_train.output,
        targets=rules.prepare_targets.output,
    output:
        shown("gallery", "Attributions", "gallery"),
        **drawn("gallery"),
    log:
        log_of("draw_gallery"),
    benchmark:
        benchmark_of("draw_gallery")
    params:
        reads=reads("figures"),
        shown=(settings.figures.gallery_targets, settings.figures.gallery_examples),
        caption=caption_facts(),
    threads: 1
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
    message:
        "Draw the gallery."
    shell:
        "{PYTHON} {SCRIPTS}/draw_gallery.py {HYDRA} job.log={log}"


rule draw_self_lds:
    input:
        layout.ridge(TOTAL),
    output:
        shown("self_lds", "Solver", "self-LDS"),
        **drawn("self_lds"),
    log:
        log_of("draw_self_lds"),
    benchmark:
        benchmark_of("draw_self_lds")
    params:
        reads=reads("figures"),
        caption=caption_facts(),
    threads: 1
    resources:
        mem_mb=settings.runtime.memory_mb,
        runtime=settings.runtime.minutes,
    message:
        "Draw the self-LDS curve."
    shell:
        "{PYTHON} {SCRIPTS}/draw_self_lds.py {HYDRA} job.log={log}"


if EVALUATED:

    rule draw_lds_vs_checkpoints:
        input:
            rules.evaluate.output,
        output:
            shown("lds_vs_checkpoints", "Evaluation", "LDS against checkpoints"),
            **drawn("lds_vs_checkpoints"),
        log:
            log_of("draw_lds_vs_checkpoints"),
        benchmark:
            benchmark_of("draw_lds_vs_checkpoints")
        params:
            reads=reads("figures"),
            caption=caption_facts(),
        threads: 1
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
        message:
            "Draw LDS against the number of checkpoints."
        shell:
            "{PYTHON} {SCRIPTS}/draw_lds_vs_checkpoints.py {HYDRA} job.log={log}"

    rule draw_predicted_vs_actual:
        input:
            **evaluation_inputs(),
            scores=layout.score_array(TOTAL, TOTAL),
            targets=rules.prepare_targets.output,
        output:
            shown("predicted_vs_actual", "Evaluation", "predicted against actual"),
            **drawn("predicted_vs_actual"),
        log:
            log_of("draw_predicted_vs_actual"),
        benchmark:
            benchmark_of("draw_predicted_vs_actual")
        params:
            reads=reads("figures"),
            shown=settings.figures.shown_target,
            caption=caption_facts(),
        threads: 1
        resources:
            mem_mb=settings.runtime.memory_mb,
            runtime=settings.runtime.minutes,
        message:
            "Draw predicted against actual outputs."
        shell:
            "{PYTHON} {SCRIPTS}/draw_predicted_vs_actual.py {HYDRA} job.log={log}"
