"""The recipe: everything that defines a run, and the only configuration object there is.

YAML in, YAML out. A recipe that lies in a run directory is complete: the same file starts the
same run again. Names are the field's standard terms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import UserError, describe_os_error
from core.methods import METHODS, Bits, Method, MethodName, refusal
from core.objectives import OBJECTIVES, Objective, ObjectiveName
from core.paths import expanded
from core.text import UNSAFE
from core.yaml_text import read_yaml

Switch = Literal["auto"] | bool
Schedule = Literal["cosine", "linear", "constant", "constant_with_warmup"]
Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]
Balance = Literal["auto"] | Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    """What all sections share: unknown keys are an error, assignments are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class ModelSection(_Section):
    """The base model."""

    id: str = Field(min_length=1, description="hub id (org/name) or a local folder")
    revision: str | None = Field(None, description="hub branch, tag or commit")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="type of the weights; auto: bf16 where the hardware has it"
    )


class DataSection(_Section):
    """The rows and how they become tokens."""

    train: list[str] = Field(min_length=1, description="files, folders, globs or hub ids")
    eval: list[str] = Field(
        default_factory=list, description="held-out rows; else see `eval_by_name`"
    )
    eval_by_name: bool = Field(
        True, description="hold out what `train` has for evaluation by its names; else a split"
    )
    mapping: dict[str, str] = Field(
        default_factory=dict, description="role → column, for columns that are not recognised"
    )
    max_length: int = Field(1024, ge=8, description="tokens a row; longer rows are cut")
    train_on: Literal["assistant", "last", "all"] = Field(
        "assistant", description="tokens the loss is taken on: all answers, the last, everything"
    )
    eval_fraction: float = Field(0.05, ge=0, lt=1, description="share held out without `eval`")
    max_rows: int | None = Field(None, ge=1, description="train on the first N usable rows only")


class MethodSection(_Section):
    """What is trained."""

    name: MethodName = Field("lora", description="see core/methods.py for all of them")
    bits: Bits | None = Field(
        None, description="of the base's weights: 4 (NF4), 8 or 16; default: the method's usual"
    )
    rank: int = Field(16, ge=1, le=1024, description="rank r of the update")
    alpha: float = Field(32, gt=0, description="LoRA alpha; the update is scaled by alpha/r")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the adapter")
    target_modules: Literal["attention", "attention-all", "all-linear"] | list[str] = Field(
        "all-linear", description="attention (q, v), attention-all (q, k, v, o), all-linear, names"
    )
    layers: int = Field(2, ge=1, description="last-layers: how many of them are trained")
    virtual_tokens: int = Field(20, ge=1, le=1024, description="prefix, prompt, p-tuning")
    lr_ratio: float = Field(16, ge=1, description="lora+: learning rate of B over that of A")

    @model_validator(mode="after")
    def _can_be_trained(self) -> MethodSection:
        why = refusal(self.name, self.bits)
        if why is not None:
            raise ValueError(why)
        return self

    @property
    def spec(self) -> Method:
        """What the method can do."""
        return METHODS[self.name]

    @property
    def base_bits(self) -> Bits:
        """Bits of the base's weights while training; 16 stands for 16 or 32."""
        return self.bits or self.spec.bits[0]


class ObjectiveSection(_Section):
    """What the model is made better at."""

    name: ObjectiveName = Field(
        "sft",
        description="sft: answers; pretrain: text; dpo, orpo: chosen over rejected; kto: good, bad",
    )
    beta: float = Field(
        0.1, gt=0, description="dpo, kto: how close to stay to the base; orpo: weight of the odds"
    )
    desirable_weight: Balance = Field(
        "auto", description="kto: weight of good rows; auto: good and bad count the same in sum"
    )
    undesirable_weight: Balance = Field("auto", description="kto: weight of bad rows")

    @property
    def spec(self) -> Objective:
        """What the objective learns from."""
        return OBJECTIVES[self.name]


class TrainingSection(_Section):
    """How it is trained."""

    epochs: float = Field(3.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="stops earlier than `epochs` would")
    learning_rate: float = Field(2e-4, gt=0, lt=1, description="default: the method's usual")
    schedule: Schedule = "cosine"
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps")
    micro_batch: int = Field(4, ge=1, description="rows in one forward pass")
    gradient_accumulation: int = Field(4, ge=1, description="micro-batches in one step")
    batch: int | None = Field(
        None, ge=1, description="rows in one step; micro_batch is then the largest that fits"
    )
    optimizer: Literal["auto", "adamw", "adamw-8bit", "paged-adamw-8bit", "sgd"] = Field(
        "auto", description="auto: adamw (fused); paged-adamw-8bit where its memory does not fit"
    )
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are clipped to this norm; 0: no")
    gradient_checkpointing: Switch = Field("auto", description="less memory, a third more compute")
    packing: Switch = Field(
        "auto", description="rows end to end, without padding, where the model keeps them apart"
    )
    attention: Literal["auto", "sdpa", "flash", "flex", "eager"] = Field(
        "auto", description="kernel for attention; auto: flash where it is installed"
    )
    kernels: Literal["auto", "none", "liger"] = Field(
        "auto", description="faster layers, if installed and if they give the same loss"
    )
    compile: Switch = Field("auto", description="torch.compile of the layers; auto: long GPU runs")
    tf32: Switch = Field("auto", description="products of fp32 matrices in TF32, on GPUs")
    eval_steps: int | None = Field(None, ge=1, description="default: ten times a run")
    save_steps: int | None = Field(None, ge=1, description="default: as often as evaluation")
    save_minutes: float | None = Field(
        30, gt=0, description="and at least this often; null: by steps alone"
    )
    keep_checkpoints: int = Field(2, ge=1, description="the newest; the best is kept as well")
    early_stopping: Switch = Field(
        "auto", description="end when the held-out loss only rises; auto: with small data"
    )
    patience: int = Field(3, ge=1, description="evaluations clearly worse than the best, in a row")
    trackers: list[Tracker] = Field(
        default_factory=list, description="tensorboard, wandb, trackio, mlflow: sent to as well"
    )
    seed: int = 42

    @property
    def effective_batch(self) -> int:
        """Rows that one optimiser step sees."""
        return self.batch or self.micro_batch * self.gradient_accumulation


class EvaluationSection(_Section):
    """What is measured on held-out rows when the training has ended."""

    enabled: bool = True
    rows: int = Field(100, ge=1, description="held-out rows whose answer is generated")
    base: bool = Field(True, description="measure the untuned model on the same rows")
    max_new_tokens: int | None = Field(
        None, ge=1, description="default: half as long again as the longest reference answer"
    )


class HardwareSection(_Section):
    """Where it runs and what that costs."""

    gpu: Annotated[str, Field(description="auto, cpu, or the GPU's index or UUID")] = "auto"
    gpus: Literal["all"] | int | list[int] = Field(
        1, description="how many of this machine's, which (by index), or all"
    )
    nodes: int = Field(1, ge=1, description="machines, each with `gpus`")
    sharding: Literal["auto", "ddp", "fsdp", "zero3"] = Field(
        "auto", description="several GPUs: a copy on each (ddp), or parts (fsdp, zero3)"
    )
    dollars_per_hour: float | None = Field(None, ge=0, description="for the running cost")

    @property
    def one_gpu(self) -> str:
        """The device of what a single process does: `gpu`, or the first of those in `gpus`."""
        if self.gpu == "auto" and isinstance(self.gpus, list) and self.gpus:
            return str(self.gpus[0])
        return self.gpu


class Recipe(_Section):
    """One run, complete."""

    version: Literal[1] = 1
    name: str = Field("run", min_length=1, max_length=60)
    model: ModelSection
    data: DataSection
    method: MethodSection = Field(default_factory=MethodSection)
    objective: ObjectiveSection = Field(default_factory=ObjectiveSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    hardware: HardwareSection = Field(default_factory=HardwareSection)
    merge: bool = Field(
        True, description="write merged/ when the training has ended, where the method can"
    )
    trial: bool = Field(False, description="a few steps on some 100 rows, to prove the set-up")

    @model_validator(mode="after")
    def _goes_together(self) -> Recipe:
        method, sharding = self.method.spec, self.hardware.sharding
        if sharding in ("fsdp", "zero3") and not method.can_be_split:
            raise ValueError(
                f"hardware.sharding: {sharding} does not go with {method.title}; set it to ddp, "
                "or choose another method.name"
            )
        if sharding == "fsdp" and "8bit" in self.training.optimizer:
            raise ValueError(
                f"hardware.sharding: fsdp does not go with training.optimizer "
                f"{self.training.optimizer}, whose states cannot be split; set that to adamw"
            )
        if self.training.gradient_checkpointing is True and not method.allows_checkpointing:
            raise ValueError(
                f"training.gradient_checkpointing does not go with {method.title}; leave it out, "
                "or choose another method.name"
            )
        return self

    @property
    def ends_with_merge(self) -> bool:
        """Whether an adapter is to be merged into its base when the training has ended."""
        return self.merge and self.method.spec.has_adapter and self.method.spec.merges

    @model_validator(mode="before")
    @classmethod
    def _allow_short_forms(cls, value: Any) -> Any:
        """`model: id`, `data: file`, `method: name` and `objective: name` stand for sections."""
        if isinstance(value, dict):
            if isinstance(value.get("model"), str):
                value = {**value, "model": {"id": value["model"]}}
            if isinstance(value.get("data"), str):
                value = {**value, "data": {"train": [value["data"]]}}
            for key in ("method", "objective"):
                if isinstance(value.get(key), str):
                    value = {**value, key: {"name": value[key]}}
            value = _with_usual_rate(value)
        return value

    @property
    def encodes(self) -> Literal["assistant", "last", "all", "text"]:
        """How rows become tokens: `text` is everything, in as many pieces as it takes."""
        return "text" if self.objective.name == "pretrain" else self.data.train_on

    def to_yaml(self) -> str:
        """The recipe as YAML, keys in the order of this file. What a terminal would obey (names
        of columns and files are anybody's) is written as an escape."""
        tree = self.model_dump(mode="json")
        text = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
        return UNSAFE.sub(lambda found: f"\\U{ord(found.group()):08X}", text)

    def with_changes(self, assignments: list[str]) -> Recipe:
        """A copy with `key.path=value` assignments applied; values are YAML. UserError if bad."""
        tree = self.model_dump(mode="json")
        if self.training.learning_rate == self.method.spec.rate:
            del tree["training"]["learning_rate"]  # another method has another usual one
        for assignment in assignments:
            path, separator, text = assignment.partition("=")
            if not separator:
                raise UserError(f"“{assignment}” sets nothing.", "Write it as key=value.")
            _assign(tree, path.strip().split("."), _yaml_value(text, path))
        return parse_recipe(tree, "--set")


class _Dumper(yaml.SafeDumper):
    """Puts strings that hold what a terminal would obey between the quotes that allow escapes."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if UNSAFE.search(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


def _with_usual_rate(tree: dict[str, Any]) -> dict[str, Any]:
    """Without a learning rate of its own a recipe has that of its method."""
    method, training = tree.get("method", {}), tree.get("training", {})
    if not isinstance(method, dict) or not isinstance(training, dict):
        return tree
    name = method.get("name", "lora")
    if "learning_rate" in training or name not in get_args(MethodName):
        return tree
    return {**tree, "training": {**training, "learning_rate": METHODS[name].rate}}


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file. Relative data and model paths are taken from the file's folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise describe_os_error(error, "read the recipe") from error
    recipe = parse_recipe(read_yaml(text, f"{path} is not YAML"), str(path))
    recipe.data.train = [_beside(path, source) for source in recipe.data.train]
    recipe.data.eval = [_beside(path, source) for source in recipe.data.eval]
    recipe.model.id = _beside(path, recipe.model.id)
    return recipe


def parse_recipe(tree: object, where: str) -> Recipe:
    """Validate a parsed tree; every finding becomes one sentence that names the key."""
    if not isinstance(tree, dict):
        raise UserError(f"{where} holds no recipe.", "It needs at least `model:` and `data:`.")
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{where}: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    findings = []
    for finding in error.errors(include_url=False)[:3]:
        key = ".".join(str(part) for part in finding["loc"]) or "recipe"
        if finding["type"] == "extra_forbidden":
            findings.append(f"{key} is not a known key")
        elif finding["type"] == "missing":
            findings.append(f"{key} is missing")
        elif finding["type"] == "value_error":
            findings.append(f"{key}: {finding['ctx']['error']}")
        else:
            message = finding["msg"][:1].lower() + finding["msg"][1:]
            findings.append(f"{key}: {message} (got {finding['input']!r:.60})")
    return "; ".join(findings) + "."


def _yaml_value(text: str, path: str) -> Any:
    value = read_yaml(text, f"--set {path}")
    if isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 reads 2e-4 as a string
        except ValueError:
            return value
    return value


def _assign(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            raise UserError(f"--set {'.'.join(keys)}: {key} holds no further keys.")
        tree = branch
    tree[keys[-1]] = value


def _beside(recipe: Path, source: str) -> str:
    """`source` as an absolute path if it lies beside the recipe, else as it was (a hub id)."""
    candidate = recipe.parent / expanded(source)
    there = candidate.exists() or candidate.parent.is_file()  # a list in a file
    return str(candidate.resolve()) if there else source
