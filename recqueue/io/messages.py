"""Errors of the scenario schema as one readable line each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

EXAMPLES = {
    "schema": "schema: 1",
    "model": "model: dlrm-rmc1",
    "server": "server: {cpu: xeon-16c}",
    "server.cpu": "server: {cpu: xeon-16c}",
    "accelerator.device": "accelerator: {device: h200}",
    "workload": "workload: {sizes: {distribution: mlperf}}",
    "workload.sizes": "sizes: {distribution: mlperf}",
    "sla": "sla: {percentile: 95, latency_ms: 100}",
    "sla.latency_ms": "sla: {percentile: 95, latency_ms: 100}",
    "policy.batch_size": "policy: {batch_size: 64, offload_threshold: 300}",
}

ALLOWED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "list_type": "a list such as [1, 64, 1024]",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "a number below {lt:g}",
}


def shown(value: Any) -> str:
    """Value as an error quotes it, on one line and not too long."""
    text = "null" if value is None else value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return repr(text if len(text) <= 60 else text[:57] + "...")


def near_miss(word: Any, known: Iterable[str]) -> str:
    """Sentence that proposes the known word closest to ``word``, or nothing."""
    close = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.6)
    return f". Did you mean {close[0]!r}?" if close else ""


def explain(error: ValidationError) -> str:
    """Say the most telling of the errors in one line: key, value, what is allowed, likely fix.

    A misspelt key comes first, because it also makes the key it was meant to be go missing.
    """
    order = {"unknown_key": 0, "bad_choice": 1}
    found = sorted(error.errors(include_url=False), key=lambda e: order.get(e["type"], 2))
    text = _one(found[0])
    return text if len(found) == 1 else f"{text} (and {len(found) - 1} more)"


def _one(e: Mapping[str, Any]) -> str:
    context = e.get("ctx", {})
    key = _path([part for part in e["loc"] if not str(part).startswith("<")])
    kind, value = e["type"], shown(e["input"])
    if kind == "unknown_key":
        inside = e["input"][context["key"]]
        there, keys = f"{key}." * bool(key) + _path([context["key"]]), context["keys"]
        return (
            f"{there} (value {shown(inside)}): unknown key; allowed: {', '.join(keys)}{near_miss(context['key'], keys)}"
        )
    if kind == "not_a_mapping":
        return f"{key or 'the file'} {value}; it must be a mapping with the keys {', '.join(context['keys'])}" + _for(
            key
        )
    if kind == "bad_choice":
        choice, names, given = context["key"], ", ".join(context["names"]), e["input"]
        if not isinstance(given, dict):
            return f"{key} {value}; it must be a mapping with the key {choice}, one of {names}{_for(key)}"
        if choice not in given:
            beside = next((f" (found {k!r} instead)" for k in given if near_miss(k, [choice])), "")
            return f"{key}.{choice}: missing{beside}; allowed: {names}"
        return f"{key}.{choice} {shown(given[choice])}: not supported by this version; allowed: {names}" + near_miss(
            given[choice], context["names"]
        )
    if kind == "missing":
        return f"{key}: missing" + _for(key)
    if kind == "literal_error":
        expected = context["expected"].replace("'", "").replace(" or ", ", ")
        return f"{key} {value}; allowed: {expected}" + near_miss(e["input"], expected.split(", ")) + _for(key)
    if kind in ALLOWED:
        return f"{key} {value}; it must be {ALLOWED[kind].format(**context)}" + _for(key)
    return f"{key} {value}; {e['msg']}"


def _for(key: str) -> str:
    return f", for example '{EXAMPLES[key]}'" if key in EXAMPLES else ""


def _path(parts: list[Any]) -> str:
    text = ""
    for part in parts:
        plain = isinstance(part, str) and all(word.isidentifier() for word in part.split("."))
        name = str(part) if plain else shown(part)  # a key of odd characters must not break the line
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text
