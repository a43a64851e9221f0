"""The words of the arithmetic stories."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = ("Aisha", "Bora", "Chen", "Dana", "Emre", "Farah", "Goro", "Hana", "Ivo", "Jiwoo", "Kofi", "Lena")
THINGS = ("marbles", "stamps", "shells", "coins", "beads", "cards", "buttons", "pencils", "stickers", "seeds")
STARTS = (
    "{name} has {number} {things}.",
    "{name} starts the week with {number} {things}.",
    "There are {number} {things} in {name}'s drawer.",
)
STORY_MOVES: Mapping[str, tuple[str, ...]] = {
    "add": (
        "{name} finds {number} more.",
        "A friend brings {number} more {things}.",
        "Then {number} are added.",
    ),
    "subtract": (
        "{name} gives {number} away.",
        "Then {number} of the {things} are lost.",
        "After that, {number} are taken out.",
    ),
    "multiply": (
        "The collection grows to {number} times its size.",
        "{name} now gets {number} times as many {things} as before.",
    ),
    "divide": (
        "{name} shares the {things} equally among {number} boxes and keeps one box.",
        "Only one in {number} of the {things} is kept.",
    ),
}
"""What happens in each operation; each has `{number}`."""
END_QUESTIONS = (
    "How many {things} does {name} have now?",
    "How many {things} are there in the end?",
)
