"""Chat templates of ten families, cut down to what decides the mask, with their tokens.

They keep what is peculiar to each: where the turn ends, what generation begins with, what is
refused, and what is rewritten in earlier turns.
"""

# ruff: noqa: E501 - templates are not prose
from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Family:
    """A template and what it ought to train. `before` stands before every answer that it writes
    itself; `call` is how it writes the tool call of the test row (None: it has no tools)."""

    name: str
    template: str | None
    specials: list[str]
    stops: list[str]
    end: str
    bos: str | None = None
    kind: str = "byte-level"
    before: str = ""
    call: str | None = None
    sequences: int = 1
    notes: list[str] = field(default_factory=list)


CHATML = Family(
    "chatml",
    """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{- tool | tojson }}{{- '\\n' }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
""",
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    ["<|im_end|>", "<|endoftext|>"],
    "<|im_end|>",
    call='<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
)
LLAMA3 = Family(
    "llama-3",
    """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + message.content + '<|eot_id|>' }}
    {%- elif message.tool_calls %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('This model only supports single tool-calls at once!') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
        {{- '{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + '}' }}
        {{- '<|eot_id|>' }}
    {%- else %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
        {{- message.content | trim }}{{- '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
     "<|eot_id|>", "<|eom_id|>"],
    ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    "<|eot_id|>",
    bos="<|begin_of_text|>",
    call='{"name": "weather", "parameters": {"city": "Oslo"}}',
)  # fmt: skip
MISTRAL = Family(
    "mistral",
    """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content %}{%- set turns = messages[1:] %}
{%- else %}{%- set turns = messages %}{%- endif %}
{%- for message in turns %}
    {%- if message.role == 'user' %}
        {%- if loop.first and system is defined %}{{- '[INST] ' + system + '\\n\\n' + message.content + '[/INST]' }}
        {%- else %}{{- '[INST] ' + message.content + '[/INST]' }}{%- endif %}
    {%- elif message.tool_calls %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}{{- call.function | tojson }}{%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] ' + message.content + '[/TOOL_RESULTS]' }}
    {%- else %}
        {{- ' ' + message.content + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    ["<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"],
    ["</s>"],
    "</s>",
    bos="<s>",
    kind="sentencepiece",
    before=" ",
    call='[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo"}}]',
)
GEMMA = Family(
    "gemma",
    """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}
""",
    ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
    ["<eos>", "<end_of_turn>"],
    "<end_of_turn>",
    bos="<bos>",
    notes=["no system turn"],
)
PHI = Family(
    "phi",
    """\
{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}\
{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}\
{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
""",
    ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
    ["<|endoftext|>", "<|end|>"],
    "<|end|>",
)
QWEN3 = Family(
    "qwen3",
    """\
{%- set ns = namespace(last_query=messages | length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- if ns.searching and message.role == 'user' %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = message.reasoning_content or '' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_query and (loop.last or reasoning) %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- message.content.lstrip('\\n') }}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
""",
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    ["<|im_end|>", "<|endoftext|>"],
    "<|im_end|>",
    before="<think>\n\n</think>\n\n",
    call='<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    sequences=2,
    notes=["rewrites earlier turns"],
)
DEEPSEEK = Family(
    "deepseek-r1",
    """\
{{ bos_token }}{%- for message in messages %}
{%- if message['role'] == 'system' %}{{ message['content'] }}{%- endif %}
{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}
{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}
{%- if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}
{{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}
{%- endfor %}{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}
""",
    [
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<think>",
    ],
    ["<｜end▁of▁sentence｜>"],
    "<｜end▁of▁sentence｜>",
    bos="<｜begin▁of▁sentence｜>",
    notes=["begins generation with"],
)
ZEPHYR = Family(
    "zephyr-without-system",
    """\
{% for message in messages %}
{% if message['role'] == 'system' %}
{{ raise_exception('Only user and assistant roles are supported!') }}
{% endif %}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
""",
    ["<s>", "</s>"],
    ["</s>"],
    "</s>",
    bos="<s>",
    notes=["no system turn"],
)
BASE = Family(
    "base-model", None, ["<|endoftext|>"], ["<|endoftext|>"], "<|endoftext|>",
    call='\n{"name": "weather", "arguments": {"city": "Oslo"}}',
)  # fmt: skip
STRIPS = Family(
    "strips-history",
    """\
{{ bos_token }}{% for message in messages %}\
{% if message.role == 'assistant' and not loop.last %}<|turn|>assistant
{{ message.content.split(' ')[0] }}…<|end|>
{% else %}<|turn|>{{ message.role }}
{{ message.content }}<|end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|turn|>assistant
{% endif %}
""",
    ["<|bos|>", "<|turn|>", "<|end|>"],
    ["<|end|>"],
    "<|end|>",
    bos="<|bos|>",
    sequences=2,
    notes=["rewrites earlier turns"],
)
LLAMA2 = Family(
    "llama-2",
    """\
{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}\
{% else %}{% set turns = messages %}{% set system = false %}{% endif %}\
{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if loop.index0 == 0 and system %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}
""",
    ["<s>", "</s>"],
    ["</s>"],
    " </s>",
    bos="<s>",
    kind="sentencepiece",
    before=" ",
)
FAMILIES = [
    CHATML, LLAMA3, MISTRAL, GEMMA, PHI, QWEN3, DEEPSEEK, ZEPHYR, BASE, STRIPS, LLAMA2,
]  # fmt: skip
