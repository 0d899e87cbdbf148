"""Stands in for the engine that samples and evaluates."""

from __future__ import annotations

CODE = 1
