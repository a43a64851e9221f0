from __future__ import annotations

import pytest
import torch

from papertrial.efficient.vocabulary_adaptation.generation import generation_speed
from papertrial.efficient.vocabulary_adaptation.prompts import (
    SquadExample,
    answer_prompts,
    rouge_l,
    squad_prompt,
    translation_prompt,
)
from papertrial.errors import BadInputError


def test_characters_are_tokens_times_what_the_text_needs(build, source_tokenizer, english):
    model = build(320)
    calls = []
    plain = model.generate

    def counted(*given, **named):
        written = plain(*given, **named)
        calls.append(written.shape[1] - given[0].shape[1])
        return written

    model.generate = counted
    speed = generation_speed(model, source_tokenizer, english[:2], new_tokens=5)
    assert calls == [2, 5, 5]  # a warm-up, then exactly as many tokens as asked for
    tokens = sum(len(source_tokenizer(text)["input_ids"]) for text in english[:2])
    assert speed.characters_per_token == pytest.approx(sum(map(len, english[:2])) / tokens)
    assert speed.characters_per_second == pytest.approx(speed.tokens_per_second * speed.characters_per_token)
    with pytest.raises(BadInputError, match="hold no text"):
        generation_speed(model, source_tokenizer, [""])


def test_prompts_to_the_character():
    assert translation_prompt("Ciao.", [("Sì.", "Yes.")]) == (
        "Translate from Italian to English\nText: Sì.\nTranslation: Yes.\n\n"
        "Translate from Italian to English\nText: Ciao.\nTranslation:"
    )
    assert (
        translation_prompt("Hi.", [], into="it")
        == "Traduci dall'Inglese all'Italiano\nText: Hi.\nTranslation:"
    )
    assert squad_prompt(SquadExample("c2", "q2"), [SquadExample("c1", "q1", "a1")]) == (
        "Contesto: c1\nDomanda: q1\nRisposta: a1\n\nContesto: c2\nDomanda: q2\nRisposta:"
    )
    with pytest.raises(BadInputError, match="unknown language 'fr'"):
        translation_prompt("a", [], into="fr")


def test_answers_are_greedy_and_end_at_a_blank_line(build, source_tokenizer):
    """A model that repeats one cycle of tokens: its text is known beforehand."""
    model = build(320, width=64)
    names = {text: source_tokenizer(text)["input_ids"] for text in ("a", "b", "\n")}
    cycle = [names["a"][0], names["b"][0], names["\n"][0], names["\n"][0]]
    seen = []

    def scripted(input_ids, **named):
        from transformers.modeling_outputs import CausalLMOutputWithPast

        place = len(seen)
        seen.append(input_ids.shape[1])
        logits = torch.zeros(1, input_ids.shape[1], 320)
        logits[0, -1, cycle[min(place, 3)]] = 9.0
        return CausalLMOutputWithPast(logits=logits, past_key_values=named.get("past_key_values"))

    model.forward = scripted
    (answer,) = answer_prompts(model, source_tokenizer, ["the cat"], new_tokens=20)
    assert answer == "ab"
    assert len(seen) == 4
    with pytest.raises(BadInputError, match="prompt 0 is empty"):
        answer_prompts(model, source_tokenizer, [""])


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin 2004's example: 3 of 4 and 3 of 4
        ("the gunman kill police", "police kill the gunman", 0.5),
        ("La città", "la città!", 1.0),
        ("", "a", 0.0),
        ("", "", 1.0),
    ],
)
def test_rouge_l(answer, reference, wanted):
    assert rouge_l(answer, reference) == pytest.approx(wanted)
