"""YAML that somebody has written, read: whatever it holds, one sentence says why it cannot be."""

from __future__ import annotations

from typing import Any

import yaml

from core.errors import UserError


def read_yaml(text: str, where: str) -> object:
    """The tree that the text holds. UserError, which begins with `where`, when it holds none."""
    try:
        tree: object = yaml.load(text, Loader=_Strict)
        return tree
    except yaml.YAMLError as error:
        problem = _problem(error)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:  # a date that is none, a number of thousands of digits
        problem = str(error).partition(";")[0]
        problem = problem[:1].lower() + problem[1:]
    raise UserError(f"{where}: {problem}.")


class _Strict(yaml.SafeLoader):
    """Refuses a key that is there twice: of two values one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    problem = f"{key.value} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                if isinstance(key, yaml.ScalarNode):
                    seen.add(key.value)
        return super().construct_mapping(node, deep)


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character at {error.position + 1:,} cannot be there"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be parsed"
    return f"{problem} (line {mark.line + 1})" if mark else str(problem)
