from __future__ import annotations

import random

import pytest

from papertrial.efficient.exaone_3_5.decontamination import Decontaminator, Rule
from papertrial.efficient.exaone_3_5.leaks import DISGUISES, make_document, make_items
from papertrial.efficient.exaone_3_5.naive import normalise_text
from papertrial.errors import BadInputError


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("characters", [500, 4000])
def test_what_is_planted_is_what_is_said(disguise, characters):
    items = make_items(12, 0)
    draw = random.Random(1)
    exhaustive = Decontaminator(items, Rule(mode="exhaustive"))
    for _ in range(10):
        made = make_document(items, characters, disguise, draw)
        plain = normalise_text(made.text)
        assert made.characters == len(plain) == characters
        if made.copied:
            copied = plain[made.start : made.start + made.copied]
            assert copied in normalise_text(items[made.item].text)
        assert (exhaustive.find(made.text) is not None) == (made.copied >= 50)


def test_items_differ_and_have_both_scripts():
    items = make_items(40, 3)
    assert len({item.text for item in items}) == 40
    assert sum("상자" in item.text for item in items) == 20
    assert min(len(normalise_text(item.text)) for item in items) >= 60
    with pytest.raises(BadInputError, match="has no room"):
        make_document(items, 50, "verbatim", random.Random(0))
    with pytest.raises(BadInputError, match="unknown disguise"):
        make_document(items, 500, "hidden", random.Random(0))
