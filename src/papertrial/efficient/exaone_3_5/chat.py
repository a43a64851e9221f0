"""The chat form of EXAONE 3.5: turns in marks, the user's closed by a newline alone.

Source: arXiv 2412.04862's released README, quick start and Modelfile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from papertrial.errors import BadInputError, unknown

DEFAULT_SYSTEM = "You are EXAONE model from LG AI Research, a helpful assistant."
"""The system text that the models were trained with; answers are worse without it."""
END_OF_TURN = "[|endofturn|]"

_ROLES = ("system", "user", "assistant")

CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}{{ '[|system|]"
    + DEFAULT_SYSTEM
    + "[|endofturn|]\\n' }}{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{ raise_exception('unknown role ' ~ message['role']) }}{%- endif -%}"
    "{{ '[|' ~ message['role'] ~ '|]' ~ message['content'] }}"
    "{%- if message['role'] != 'user' -%}{{ '[|endofturn|]' }}{%- endif -%}"
    "{%- if not loop.last or message['role'] == 'user' -%}{{ '\\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{%- if messages[-1]['role'] != 'user' -%}{{ '\\n' }}{%- endif -%}{{ '[|assistant|]' }}{%- endif -%}"
)
"""For `tokenizer.chat_template`; gives what `chat_text` gives."""


def chat_text(
    messages: Sequence[Mapping[str, str]], *, answer: bool = True, system: str | None = DEFAULT_SYSTEM
) -> str:
    """Return messages in the models' own form.

    Args:
        messages: each with `role` (system, user or assistant) and `content`.
        answer: end where the assistant's answer begins.
        system: put first where the messages bring no system text; None leaves it out.

    Raises:
        BadInputError: no message, an unknown role, or a message without text.
    """
    if not messages:
        raise BadInputError("a chat needs at least one message")
    turns = []
    if system is not None and messages[0].get("role") != "system":
        turns.append(f"[|system|]{system}{END_OF_TURN}")
    for number, message in enumerate(messages):
        role, content = message.get("role", ""), message.get("content")
        if role not in _ROLES:
            raise unknown("role", role, _ROLES)
        if not isinstance(content, str):
            raise BadInputError(f"message {number} has no text under 'content'")
        turns.append(f"[|{role}|]{content}{'' if role == 'user' else END_OF_TURN}")
    ends_open = "[|assistant|]" if answer else ""
    user_last = messages[-1]["role"] == "user"
    return "\n".join(turns) + ("\n" if answer or user_last else "") + ends_open
