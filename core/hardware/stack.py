"""What is installed of the training stack, told from its files: nothing of it is imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from core.hardware.facts import Fact

SHOWN = ("transformers", "trl", "peft", "bitsandbytes")


def installed(name: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def torch_cuda() -> str | None:
    """The CUDA version torch was built for, from its version file; None for a CPU build."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.split(":")[0].strip() == "cuda":
            stripped = value.strip().strip("'\"")
            return None if stripped in ("None", "") else stripped
    return None


def torch_text() -> str:
    """torch's version, and what it was built for."""
    number = installed("torch")
    if number is None:
        return "not installed"
    cuda = torch_cuda()
    return f"{number}, built for {'CUDA ' + cuda if cuda else 'the CPU only'}"


def stack_facts() -> list[Fact]:
    """The packages that training needs, with their versions."""
    others = [(name, installed(name) or "not installed") for name in SHOWN]
    return [("torch", torch_text()), *others]
