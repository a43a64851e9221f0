"""The latest verdicts: claim by claim one's own before the reference run's."""

from __future__ import annotations

import json

from papertrial.trial.reference import latest_verdicts, reference_verdicts
from papertrial.trial.rooms import find_room


def test_own_verdicts_count_claim_by_claim(tmp_path):
    room = find_room("apollo")
    shipped = reference_verdicts(room)
    name, other = list(shipped)[:2]
    own = {
        "claim": name,
        "word": "undecided",
        "estimate": 1.0,
        "low": 0.0,
        "high": 2.0,
        "seeds": 3,
    }
    file = tmp_path / "evidence" / "apollo" / "verdicts.json"
    file.parent.mkdir(parents=True)
    kept = {
        "verdict": own,
        "made": "2026-01-01T00:00:00",
        "scale": "mine",
        "command": "papertrial try apollo",
    }
    file.write_text(json.dumps({name: kept, "a claim that is gone": kept}))
    latest, source = latest_verdicts(room, tmp_path)
    assert (latest[name].verdict.word, latest[name].scale) == ("undecided", "mine")
    assert latest[other] == shipped[other]
    assert set(latest) == set(shipped)
    assert source.startswith("measured here; reference run, 20")
    assert latest_verdicts(room, tmp_path / "empty") == (shipped, source.removeprefix("measured here; "))
