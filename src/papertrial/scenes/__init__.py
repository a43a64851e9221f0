"""Scenes in space: splatting, 4-D reconstruction, presenters among their data."""
