"""Agents that make things: research and presentations."""
