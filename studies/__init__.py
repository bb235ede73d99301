"""Worked studies; each asks one question and asserts its claim."""
