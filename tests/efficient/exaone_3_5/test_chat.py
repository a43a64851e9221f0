from __future__ import annotations

import pytest

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.exaone_3_5.chat import CHAT_TEMPLATE, DEFAULT_SYSTEM, chat_text
from papertrial.errors import BadInputError

CHATS = [
    [{"role": "user", "content": "스스로를 자랑해 봐"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who?"},
    ],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
]


def test_the_published_form():
    """The user's turn ends with a newline and no mark; the others with the mark."""
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert chat_text(messages) == "[|system|]S[|endofturn|]\n[|user|]U\n[|assistant|]"
    messages.append({"role": "assistant", "content": "A"})
    assert (
        chat_text(messages, answer=False)
        == "[|system|]S[|endofturn|]\n[|user|]U\n[|assistant|]A[|endofturn|]"
    )


def test_the_system_text_is_put_in_where_there_is_none():
    assert chat_text(CHATS[0]).startswith(f"[|system|]{DEFAULT_SYSTEM}[|endofturn|]\n[|user|]")
    assert chat_text(CHATS[0], system=None).startswith("[|user|]")


@pytest.mark.parametrize("messages", CHATS)
@pytest.mark.parametrize("answer", [True, False])
def test_the_template_is_the_function(messages, answer):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    made = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
    assert made == chat_text(messages, answer=answer)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "at least one message"),
        ([{"role": "tool", "content": "x"}], "unknown role 'tool'"),
        ([{"role": "user"}], "message 0 has no text"),
    ],
)
def test_bad_chats(messages, words):
    with pytest.raises(BadInputError, match=words):
        chat_text(messages)
