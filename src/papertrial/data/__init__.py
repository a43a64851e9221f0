"""Small data that any machine has or can make: text, tokens, arithmetic."""

from __future__ import annotations
