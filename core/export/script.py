"""A plain Python script that loads a model and talks to it."""

from __future__ import annotations

from pathlib import Path

_SCRIPT = '''\
#!/usr/bin/env python3
"""Talk to a model that was tuned with TuneDeck.  Needs: pip install torch transformers

    python {name} "one question"        answers it
    python {name}                       a conversation; end it with ctrl+d
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer

MODEL = {model!r}

device = "cuda" if torch.cuda.is_available() else "cpu"
tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="auto").to(device).eval()
messages = []


def answer(question):
    """Stream the answer to the conversation so far."""
    messages.append({{"role": "user", "content": question}})
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    ).to(device)
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    output = model.generate(**prompt, streamer=streamer, max_new_tokens=512, do_sample=False)
    text = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    messages.append({{"role": "assistant", "content": text}})


if len(sys.argv) > 1:
    answer(" ".join(sys.argv[1:]))
else:
    print("You: ", end="", flush=True)
    for line in sys.stdin:
        answer(line.strip())
        print("You: ", end="", flush=True)
'''


def script(model: Path, name: str) -> str:
    """The text of a script called `name`, for the model in this folder."""
    return _SCRIPT.format(model=str(model.absolute()), name=name)
