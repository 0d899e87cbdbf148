"""Stands in for the part of training that is imported late."""

from __future__ import annotations

CODE = 1
