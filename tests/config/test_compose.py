import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import BaseModel

from trakflow.config.compose import CONFIG_ROOT, compose_config
from trakflow.config.schema import Config
from trakflow.config.variants import variants
from trakflow.errors import ConfigError

EXPERIMENTS = sorted(path.stem for path in CONFIG_ROOT.glob("experiment/*.yaml"))
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONFIG_ROOT.glob("*/*.yaml")
    if path.parent.name not in ("experiment", "method")
)
METHODS = sorted(path.stem for path in CONFIG_ROOT.glob("method/*.yaml"))
# What an option leaves for the user to say.
NEEDED = {
    "evaluation=files": ["evaluation.masks=masks.npy", "evaluation.outputs=outputs.npy"],
    "model=own": ["model._target_=torch.nn.Flatten"],
    "data=own": [
        "data.train._target_=trakflow.data.digits.train",
        "data.targets._target_=trakflow.data.digits.targets",
        "data.train_size=100",
        "data.target_count=10",
    ],
    "sketch=fast_jl": ["runtime.device=cuda"],
}
# What goes with an option where the experiment has something else.
BESIDE = {
    "data=own": ["data.num_classes=10"],
    "data=diabetes": ["task=regression"],
    "data=fashion_captions": ["task=clip"],
    "data=sotu": ["task=log_probability"],
    "task=language_modeling": ["data.num_classes=null"],
    "task=log_probability": ["data.num_classes=null"],
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment):
    config = compose_config(experiment)
    assert config.counts_evaluated[-1] == config.checkpoints.total


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes(option):
    compose_config("digits", [option, *NEEDED.get(option, []), *BESIDE.get(option, [])])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes_beside_trak_with_its_own_settings(method):
    needed = ["method.external.make.path=scores.npy"] if method == "external" else []
    config = compose_config("digits", [f"methods=[trak,{method}]", *needed])
    assert list(config.method) == [method]
    assert config.counts_of(method)


def test_settings_of_a_method_are_overridden_like_any_other():
    config = compose_config("digits", ["methods=[trak,random,tracin]", "method.tracin.make.learning_rates=[0.1,0.2]"])
    assert config.method["tracin"].make["learning_rates"] == [0.1, 0.2]
    assert config.counts_of("random") == [1]


def test_methods_that_are_fitted_have_the_counts_of_fitting():
    config = compose_config(
        "digits", ["methods=[trak,datamodel]", "fitting.subsets=300", "fitting.counts=[100,50,900]"]
    )
    assert config.counts_of("datamodel") == [50, 100, 300]
    assert config.counts_of("trak") == [1, 2, 5, 10]


def test_a_method_may_have_counts_of_its_own():
    methods = ["methods=[trak,tracin,datamodel]", "method.tracin.counts=[1,3]", "method.datamodel.counts=[40]"]
    config = compose_config("digits", methods)
    assert config.counts_of("tracin") == [1, 3]
    assert config.counts_of("datamodel") == [40]
    assert config.counts_of("trak") == [1, 2, 5, 10]
    assert compose_config("digits", [*methods, "evaluation=none"]).counts_of("tracin") == [3]


def test_every_method_that_reads_anything_says_that_it_may_have_counts_of_its_own():
    config = compose_config("digits", [f"methods=[trak,{','.join(METHODS)}]", "method.external.make.path=scores.npy"])
    reading = [name for name, method in config.method.items() if method.reads != "neither"]
    own = [f"method.{name}.counts=[30]" for name in reading]
    chosen = ["methods=[trak," + ",".join(reading) + "]", "checkpoints.count=30", *own]
    assert {tuple(compose_config("digits", chosen).counts_of(name)) for name in reading} == {(30,)}


def test_with_a_ridge_of_its_own_a_library_may_have_as_many_features_as_it_likes():
    for name, ridge in (("traker", "lambda_reg"), ("dattri", "regularization")):
        chosen = [f"methods=[trak,{name}]", "sketch.k=2000", f"method.{name}.make.{ridge}=0.1"]
        assert compose_config("digits", chosen).method[name].make["k"] == 2000


def test_the_groups_that_the_tests_above_run_over_are_there():
    assert {"digits", "fashion_mnist"} <= set(EXPERIMENTS)
    assert {"sketch=identity", "solver=paper", "evaluation=none", "data=fashion_mnist"} <= set(OPTIONS)


@pytest.mark.parametrize("option", NEEDED)
def test_an_option_that_needs_more_names_every_setting_that_it_needs(option):
    with pytest.raises(ConfigError) as refused:
        compose_config("digits", [option])
    for override in NEEDED[option]:
        setting = override.partition("=")[0].removesuffix("._target_")
        assert setting.rpartition(".")[2] in str(refused.value)


def keys_of_schema(model, prefix=""):
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys_of_schema(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_field_of_the_schema_is_written_out_in_the_yaml():
    with initialize_config_dir(str(CONFIG_ROOT), version_base="1.3"):
        raw = compose("config", overrides=["experiment=digits"])
    missing = [key for key in keys_of_schema(Config) if OmegaConf.select(raw, key, default="absent") == "absent"]
    assert missing == []


def test_an_experiment_changes_what_it_names_and_nothing_else():
    digits, fashion = compose_config("digits"), compose_config("fashion_mnist")
    assert fashion.data.train_size == 2000
    assert fashion.sketch.k == 2048
    assert fashion.model == {**digits.model, "inputs": 784, "widths": [128, 64]}
    for section in ("checkpoints", "solver", "evaluation", "scores", "figures", "runtime", "targets"):
        assert getattr(fashion, section) == getattr(digits, section)


def test_overrides_beat_the_experiment_and_sizes_reach_the_data_callables():
    config = compose_config("fashion_mnist", ["sketch.k=64", "data.train_size=100", "data.target_count=9"])
    assert config.sketch.k == 64
    assert (config.data.train["size"], config.data.targets["size"]) == (100, 9)


def test_counts_evaluated_are_those_below_the_total_and_the_total():
    assert compose_config("digits").counts_evaluated == [1, 2, 5, 10]
    assert compose_config("digits", ["checkpoints.count=4"]).counts_evaluated == [1, 2, 4]
    assert compose_config("digits", ["evaluation.checkpoint_counts=[7,3,3]"]).counts_evaluated == [3, 7, 10]
    assert compose_config("digits", ["evaluation=none"]).counts_evaluated == [10]


TINY = ("data.train_size=4", "shards=1", "scores.topk=2", "evaluation.subsets=6", "checkpoints.count=6")


def test_as_many_subsets_as_exist_are_allowed():
    compose_config("digits", TINY)


MISLABELLED = ("data=digits_mislabelled", "evaluation=none", "mislabel=true")

REFUSED = {
    "unknown key": (["sketch.kk=3"], r"sketch\.kk: there is no such setting; sketch has name, k, side, .*dtype\.$"),
    "unknown key of an inner section": (["solver.ridge_grid.x=3"], r"solver\.ridge_grid has low, high, points\.$"),
    "unknown section": (["sketchh=sjlt"], r"sketchh: there is no such setting; a configuration has seed, .*runtime\.$"),
    "unknown key of a method": (["methods=[trak,gas]", "method.gas.count=[1]"], r"method\.gas has reads, counts"),
    "unknown argument of a component": (["model.depth=3"], r"To append to your config use \+model\.depth=3"),
    "unknown entry of a mapping": (["paper=digits", "paper.counts.gas=[1]"], r"use \+paper\.counts\.gas="),
    "unknown key added": (["+sketch.kk=3"], r"sketch\.kk: there is no such setting \(given: 3\)"),
    "unknown section added": (["+sketches.k=3"], "sketches: there is no such setting"),
    "unknown option": (["sketch=sjtl"], r"sjtl.*Available options.*sjlt"),
    "syntax": (["sketch.k=[1"], "cannot be composed"),
    "wrong type": (["sketch.k=many"], r"sketch\.k: .*integer.*\(given: 'many'\)"),
    "wrong type of a number": (["training.learning_rate=fast"], r"training\.learning_rate: .*number.*'fast'"),
    "k of zero": (["sketch.k=0"], r"sketch\.k: .*greater than 0 \(given: 0\)"),
    "negative k": (["sketch.k=-5"], r"sketch\.k: .*greater than 0 \(given: -5\)"),
    "fraction of one": (["evaluation.fraction=1"], r"evaluation\.fraction: .*less than 1"),
    "unknown schedule": (["training.schedule=cyclic"], r"training\.schedule: .*'constant', 'linear' or 'cosine'"),
    "more shards than examples": (["shards=1438"], r"shards=1438 is more than data\.train_size=1437.*set shards lower"),
    "wrong labels of other targets": (["mislabel=true"], r"set data\.targets to \$\{data\.train\}"),
    "wrong labels of fewer targets": ([*MISLABELLED, "data.target_count=9"], r"data\.target_count to \$\{"),
    "wrong labels without classes": ([*MISLABELLED, "data.num_classes=null"], "mislabel=true looks for wrong labels"),
    "wrong labels of predictions": ([*MISLABELLED, "targets.output=predicted"], r"set targets\.output=true_label"),
    "wrong labels without scores": ([*MISLABELLED, "scores.dense=false"], r"scores\.dense=true, or mislabel=false"),
    "removal of everything": (["removal.counts=[10,1437]"], r"removal\.counts=\[10, 1437\] leaves nothing of"),
    "removal of a number twice": (["removal.counts=[5,5]"], r"removal\.counts=\[5, 5\] names one of them twice"),
    "removal without labels": (["data.num_classes=null", "removal.counts=[5]"], "removal asks how often a .*no labels"),
    "removal for more targets": (
        ["removal.counts=[5]", "removal.targets=301"],
        r"more than data\.target_count=300; set it to at most 300",
    ),
    "removal without scores": (["removal.counts=[5]", "scores.dense=false", "evaluation=none"], "scores.dense=true"),
    "more subsets than exist": (
        [*TINY, "evaluation.subsets=7"],
        r"subsets=7 is more than the 6 subsets of 2 .* set it lower, or evaluation\.fraction nearer to a half",
    ),
    "more halves than exist": ([*TINY, "checkpoints.count=7"], r"checkpoints\.count=7 is more than the 6 subsets"),
    **{
        f"empty {part}": ([f"{part}=0.0001"], rf"{part}=0\.0001 of .* is empty or everything; set it to a part")
        for part in ("evaluation.fraction", "checkpoints.fraction")
    },
    "no ridge for k of n": (["solver.ridge=0", "sketch.k=1437"], r"sketch\.k=1437 to be smaller.*ridge=auto"),
    "no ridge for k above n": (["solver=paper", "sketch.k=2000"], r"solver\.ridge=0 needs sketch\.k=2000"),
    "negative ridge": (["solver.ridge=-1"], r"solver\.ridge: .*greater than or equal to 0"),
    "identity with k": (["sketch=identity", "sketch.k=512"], "sketch=identity .* takes no k"),
    "sketch without k": (["sketch.k=null"], "sketch=tensor_sketch needs k"),
    "nonzeros of a dense sketch": (["sketch=gaussian", "sketch.nonzeros=4"], "nonzeros is a setting of sketch=sjlt"),
    "factorized without side": (["sketch=factorized", "sketch.side=null"], "side.*sketch=factorized, which needs it"),
    "side of another sketch": (["sketch.side=8"], "side.*every other sketch has none"),
    "no parameters": (["sketch.parameters=[]"], r"sketch\.parameters: .*at least 1 item"),
    "k that nonzeros do not divide": (["sketch=sjlt", "sketch.nonzeros=3"], "k=512 must be a multiple of nonzeros=3"),
    "count and files": (["checkpoints.files=[a.pt]"], "give either count .* or files"),
    "neither count nor files": (["checkpoints.count=null"], "give count .* or files"),
    "no files": (["checkpoints.count=null", "checkpoints.files=[]"], "files is empty"),
    "a file twice": (["checkpoints.count=null", "checkpoints.files=[a.pt,b.pt,./a.pt]"], r"files names a\.pt twice"),
    "a part of files": (
        ["checkpoints.count=null", "checkpoints.files=[a.pt]", "checkpoints.fraction=0.7"],
        r"checkpoints: fraction=0\.7 says on which part runs here .* leave fraction at 0\.5",
    ),
    "part of a run": (
        ["checkpoints.epochs=[10,20,30]", "solver.ridge=1"],
        r"checkpoints: count=10 .* each run gives 3 checkpoints .*; set count to 9 or 12",
    ),
    "less than a run": (
        ["checkpoints.epochs=[10,20,30]", "checkpoints.count=2", "solver.ridge=1"],
        r"set count to 3",
    ),
    "masks without files": (["checkpoints.masks=a.npy"], "masks .* needs files"),
    "paths without source": (
        ["evaluation.masks=a.npy"],
        r"evaluation\.masks would not be read by source=retrain; choose evaluation=files",
    ),
    "source without paths": (["evaluation=files"], r"set evaluation\.masks to .* and evaluation\.outputs to the"),
    "source without outputs": (["evaluation=files", "evaluation.masks=a.npy"], r"your own; set evaluation\.outputs to"),
    "label out of range": (["targets.output=10"], r"targets\.output=10 is no label: .*num_classes is 10.* at most 9"),
    "label without classes": (["data.num_classes=null", "targets.output=0"], r"there are none; set targets\.output="),
    "predictions without classes": (
        ["data=diabetes", "task=regression", "targets.output=predicted"],
        r"targets\.output=predicted chooses a label.*set targets\.output=true_label, or data\.num_classes",
    ),
    **{
        f"{task} without classes": (["data.num_classes=null", f"task={task}"], r"num_classes is null.*task=regression")
        for task in ("image_classification", "iterative_image_classification", "text_classification")
    },
    "one class": (["data.num_classes=1"], "data.num_classes is 1, but task Classification tells classes apart"),
    "a language model with classes": (["task=language_modeling"], r"no classes; set data\.num_classes=null"),
    "more references than examples": (
        ["data.num_classes=null", "task=clip", "data.train_size=299"],
        r"task\.simulated_batch_size=300 is more than data\.train_size=299.*set it lower",
    ),
    "a CUDA kernel on the CPU": (["sketch=fast_jl"], r"device is cpu; set runtime\.device=cuda, or .*sjlt"),
    "a CUDA kernel in a figure": (["paper=digits", "+paper.sketches.fast_jl=[512]"], r"fast_jl is a CUDA .*leave it"),
    "label unknown": (["targets.output=mine"], r"targets\.output"),
    "no dense scores to evaluate": (["scores.dense=false"], "evaluation=none"),
    "groups by classes of which there are none": (
        ["scores.groups=labels", "data.num_classes=null"],
        r"scores\.groups=labels sums over classes.*data\.num_classes",
    ),
    "unknown groups": (["scores.groups=speeches"], r"scores\.groups: .*'own' or 'labels'"),
    "topk above n": (["scores.topk=1438"], r"scores\.topk=1438 is more than data\.train_size.*to at most 1437"),
    "names of other classes": (["data.class_names=[a,b]"], "class_names has 2 names but num_classes is 10"),
    "target not there": (["figures.shown_target=300"], r"shown_target=300 but data\.target_count=300.* at most 299"),
    "module not importable": (["model._target_=no_such_package.Net"], "no_such_package.Net` names no importable"),
    "module missing in a package": (["task._target_=trakflow.nowhere.Task"], r"task: .*Task` names no importable"),
    "no module at all": (["model._target_=MLP"], "model: needs `_target_: package.module.name`"),
    "masks decide what files were trained on": (
        ["checkpoints.count=null", "checkpoints.files=[a.pt]", "checkpoints.trained_on=everything"],
        "they count as trained on everything",
    ),
    "another name of a device": (["runtime.device=gpu"], r"runtime\.device: torch has no device gpu; give cpu, cuda"),
    **{
        f"device {name}": ([f"runtime.device='{name}'"], rf"runtime\.device: torch has no device {name}; give")
        for name in ("foo", "cudaa", "cud", "CUDA", "cuda:", "cuda:one")
    },
    "a colour by its name": (["figures.palette=[red]"], r"figures\.palette\.0: 'red' is no colour; .* #rrggbb"),
    "a colour of five digits": (["figures.palette=['#2166ac','#12345']"], r"palette\.1: '#12345' is no colour"),
    "two subsets": (["evaluation.subsets=2"], r"subsets=2: .*at least 3 subsets; set it higher .*or evaluation=none"),
    "unknown method": (["methods=[trak,tracing]"], r"method/tracing.*tracin"),
    "method twice": (["methods=[trak,gas,gas]"], "names one of them twice"),
    "no trak": (["methods=[gas]"], r"must begin with trak"),
    "settings of a method that is not chosen": (
        ["methods=[trak,random]", "method.gas.make.sketch=null"],
        r"`method\.gas\.make\.sketch=null` .*methods=\[trak,random\] leaves out; add it: methods=\[trak,random,gas\]",
    ),
    "a method chosen like an option": (["method=gas"], r"`method=gas`: .* a list: methods=\[trak,gas\]"),
    "a method alone": (["methods=gas"], r"methods must be a list of names, for example \[trak,gas\], but is gas"),
    "no path": (["methods=[trak,external]"], r"method\.external\.make\.path: is required and was not set$"),
    "counts that do not ascend": (
        ["methods=[trak,gas]", "method.gas.counts=[2,1]"],
        r"method\.gas: counts=\[2, 1\] must ascend",
    ),
    "a count twice": (["methods=[trak,gas]", "method.gas.counts=[2,2]"], "must ascend, each number once"),
    "a count of zero": (["methods=[trak,gas]", "method.gas.counts=[0,1]"], r"counts.*greater than 0"),
    "no counts": (["methods=[trak,gas]", "method.gas.counts=[]"], r"counts.*at least 1 item"),
    "more counts than checkpoints": (
        ["methods=[trak,gas]", "method.gas.counts=[1,11]"],
        r"method\.gas\.counts=\[1, 11\], but the number of checkpoints is 10; set method\.gas\.counts to",
    ),
    "more counts of the figures than checkpoints": (
        ["paper=digits", "checkpoints.count=5"],
        r"method\.traker\.counts=\[1, 10\], but the number of checkpoints is 5; set paper\.counts\.traker to",
    ),
    "more counts than fitted subsets": (
        ["methods=[trak,datamodel]", "method.datamodel.counts=[501]"],
        r"method\.datamodel\.counts=\[501\], but fitting\.subsets is 500",
    ),
    "too few subsets to hold any out": (
        ["methods=[trak,datamodel]", "fitting.counts=[7,50]"],
        r"fitting\.counts and fitting\.subsets: datamodel .* 7 subsets do not give; set it to at least 8",
    ),
    "too few subsets altogether": (
        ["methods=[trak,datamodel]", "fitting.subsets=7", "evaluation=none"],
        r"fitting\.subsets: datamodel .* which 7 subsets do not give",
    ),
    "too few subsets of a method's own": (
        ["methods=[trak,datamodel]", "method.datamodel.counts=[30]", "method.datamodel.make.held_out=0.01"],
        r"method\.datamodel\.counts: datamodel .* which 30 subsets do not give; set it to at least 150",
    ),
    "too few subsets to tell examples apart": (
        ["methods=[trak,empirical_influence]", "fitting.counts=[5,50]"],
        r"fitting\.counts and fitting\.subsets: empirical_influence .* of the 1437 .* in all or in none of 5 subsets",
    ),
    "subsets of a method's own that do not tell examples apart": (
        ["methods=[trak,empirical_influence]", "method.empirical_influence.counts=[8]"],
        r"method\.empirical_influence\.counts: .* in none of 8 subsets; set it to larger",
    ),
    "subsets of which hardly any are held out": (
        ["methods=[trak,datamodel]", "method.datamodel.make.held_out=1e-9"],
        r"set method\.datamodel\.make\.held_out nearer to a half",
    ),
    "no inverse of traker's": (
        ["methods=[trak,traker]", "sketch.k=1437"],
        r"method\.traker\.make\.k=1437 must be smaller than data\.train_size=1437.*make\.lambda_reg",
    ),
    "no inverse of dattri's": (
        ["methods=[trak,dattri]", "method.dattri.make.k=2000"],
        r"method\.dattri\.make\.k=2000 must be smaller.*make\.regularization",
    ),
    "no k for traker": (["methods=[trak,traker]", "sketch=identity"], r"method\.traker\.make\.k is null"),
    "counts of a method that reads nothing": (
        ["methods=[trak,random]", "+method.random.counts=[1]"],
        "reads neither checkpoints nor retrained models; set it to null",
    ),
    "more fitted subsets than exist": ([*TINY, "methods=[trak,datamodel]", "fitting.subsets=9"], r"subsets=9 is more"),
}  # fmt: skip


def test_the_ablation_trains_on_everything_where_an_experiment_has_a_fraction():
    chosen = ["paper=digits", "checkpoints.fraction=0.7"]
    found = {variant.name: variant for variant in variants(compose_config("digits", chosen))}
    assert not compose_config("digits", [*chosen, *found["everything"].overrides]).checkpoints.on_subsets


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps"])
def test_devices_of_torch_are_allowed(device):
    assert compose_config("digits", [f"runtime.device='{device}'"]).runtime.device == device


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_impossible_is_refused_in_a_sentence_that_names_the_setting(case):
    overrides, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as refused:
        compose_config("digits", overrides)
    assert "pydantic" not in str(refused.value)
    assert len(str(refused.value)) < 1500


def test_all_problems_are_named_at_once():
    with pytest.raises(ConfigError) as refused:
        compose_config("digits", ["sketch.k=0", "training.epochs=x", "runtime.threads=-1"])
    for key in ("sketch.k", "training.epochs", "runtime.threads"):
        assert key in str(refused.value)


def test_an_unknown_experiment_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"'dogits'.*digits.*fashion_mnist"):
        compose_config("dogits")


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A user's config folder with a module beside it; what composing adds to the import path is taken off again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "my config"
    (folder / "experiment").mkdir(parents=True)
    (tmp_path / "module_of_a_trakflow_user.py").write_text("raise RuntimeError('composing runs no user code')\n")
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nmodel:\n  _target_: module_of_a_trakflow_user.Net\n  width: 3\nsketch:\n  k: 64\n"
    )
    return folder


def test_a_users_own_folder_holds_experiments_and_modules(own_folder):
    config = compose_config("mine", ["sketch.k=32"], [own_folder])
    assert config.model["_target_"] == "module_of_a_trakflow_user.Net"
    assert config.model["width"] == 3
    assert config.sketch.k == 32
    assert "module_of_a_trakflow_user" not in sys.modules
    assert compose_config("digits", [], [str(own_folder)]) == compose_config("digits")


def test_a_folder_that_is_not_there_is_refused(own_folder):
    with pytest.raises(ConfigError, match=rf"no folder {own_folder}/nowhere"):
        compose_config("mine", [], [own_folder / "nowhere"])


def test_composing_imports_neither_torch_nor_anything_as_slow():
    code = (
        "import sys, trakflow.layout, trakflow.config.shards, trakflow.config.snakemake_config;"
        "from trakflow.config.compose import compose_config;"
        "from trakflow.config.stages import VERSIONS, stage_settings;"
        "config = compose_config('fashion_mnist'); [stage_settings(config, stage) for stage in VERSIONS];"
        "print({'torch', 'scipy', 'pandas', 'sklearn', 'matplotlib', 'safetensors'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_composed_configuration_survives_yaml():
    config = compose_config("digits")
    text = OmegaConf.to_yaml(config.model_dump(mode="json"))
    assert Config.model_validate(OmegaConf.to_container(OmegaConf.create(text))) == config
