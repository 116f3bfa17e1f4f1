"""Chat templates rendered as transformers does it, without importing transformers.

Templates come with a model and are untrusted: they run in jinja's immutable sandbox and see
plain JSON values only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.data.examples import Message
from core.errors import UserError

PLAIN_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}### {{ message['role'] | capitalize }}:
{{ message['content'] }}{% for call in message['tool_calls'] or [] %}

{{ call['function'] | tojson }}{% endfor %}{% if message['role'] == 'assistant' %}\
{{ eos_token }}{% endif %}


{% endfor %}{% if add_generation_prompt %}### Assistant:
{% endif %}"""
"""What stands in for a chat template where a model has none (a base model): a heading a turn,
and the end-of-text token after every answer, so that generation stops there."""

_REASONING = ("reasoning_content", "thinking", "reasoning")


class TemplateRefusal(Exception):
    """The template cannot render these messages; the text says why."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks answers for other tools: here, just its body."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Dict:
    """`dict(…)` without the class behind it, which a template could use to break out."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without jinja's HTML escapes."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict()
    )
    return environment


class ChatTemplate:
    """A compiled template with the model's named special tokens."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], where: str) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise UserError(
                f"The chat template in {where} is broken: {error}.",
                "Take the model's files anew, or another model.",
            ) from error

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """The conversation as text. TemplateRefusal when the template cannot show it."""
        try:
            return self._template.render(
                messages=[_for_template(message) for message in messages],
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except jinja2.TemplateError as error:
            raise TemplateRefusal(str(error) or type(error).__name__) from error
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError) as e:
            raise TemplateRefusal(f"it fails with {type(e).__name__}: {e}") from e
        except RecursionError as error:
            raise TemplateRefusal("the row is nested too deeply") from error


def _for_template(message: Message) -> Message:
    """What transformers does to a message: no None values, reasoning under its usual names."""
    clean = {key: value for key, value in message.items() if value is not None}
    reasoning = next((clean[key] for key in _REASONING if key in clean), None)
    if reasoning is not None:
        clean = {"thinking": reasoning, **clean, "reasoning_content": reasoning}
    return clean
