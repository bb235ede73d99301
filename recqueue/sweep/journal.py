"""Finished blocks of a sweep on disk: appended, synced, and readable up to the last whole one after any crash."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from recqueue.errors import InputError
from recqueue.sweep.points import Block

_FRAME = struct.Struct("<4sQI")
_MAGIC = b"rqs1"


class Journal:
    """An append-only file: a header that says which sweep it belongs to, then a frame for each finished block.

    Opening it cuts off what a crash left half written. It is locked, so that one process at a time writes.

    Parameters
    ----------
    path : Path
        The file; made where there is none.
    header : mapping
        What the sweep is; written to a new file.
    fresh : bool
        Whether to throw away what the file holds.

    Attributes
    ----------
    header : mapping
        What the sweep in the file is.
    spans : list of (int, int)
        First point and end of each finished block, in the order in which they were finished.

    Raises
    ------
    InputError
        When the file cannot be written, is in use, or is not a journal.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"sweep: cannot write {str(path)!r} ({error.strerror or error})") from None
        self._file: BinaryIO = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise InputError(f"sweep: {path} is being written by another sweep; wait for it, or choose another --out") \
                from None  # fmt: skip
        if fresh:
            self._file.truncate(0)
        self.header: Mapping[str, Any] = {}
        self.spans: list[tuple[int, int]] = []
        try:
            self._read_spans()
        except InputError:
            self._file.close()
            raise
        if not self.header:
            self.header = header
            self._append(json.dumps({"header": header}).encode())
            sync_folder(path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _read_spans(self) -> None:
        end = 0
        for payload in self._frames():
            head = json.loads(payload.split(b"\n", 1)[0])
            if "header" in head:
                self.header = head["header"]
            else:
                self.spans.append((head["start"], head["stop"]))
            end = self._file.tell()
        if end == 0 and os.fstat(self._file.fileno()).st_size >= _FRAME.size:
            raise InputError(f"sweep: {self.path} is not the journal of a sweep; remove it, or choose another --out")
        self._file.truncate(end)
        self._file.seek(end)

    def _frames(self) -> Iterator[bytes]:
        self._file.seek(0)
        while len(head := self._file.read(_FRAME.size)) == _FRAME.size:
            magic, length, check = _FRAME.unpack(head)
            if magic != _MAGIC:
                return
            payload = self._file.read(length)
            if len(payload) < length or zlib.crc32(payload) != check:
                return
            yield payload

    def _append(self, payload: bytes) -> None:
        self._file.write(_FRAME.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload)
        self._file.flush()
        os.fsync(self._file.fileno())

    def append(self, start: int, block: Block) -> None:
        """Keep a block whose first point is ``start``; it is on disk when this returns."""
        stop = start + len(block.figures)
        texts: dict[str, list[str | None]] = {}
        codes: list[bytes] = []
        for name, words in block.words.items():
            place = {word: i for i, word in enumerate(dict.fromkeys(words))}
            texts[name] = list(place)
            codes.append(np.array([place[w] for w in words], dtype="<i4").tobytes())
        head = {"start": start, "stop": stop, "width": block.figures.shape[1], "texts": texts}
        figures = np.ascontiguousarray(block.figures, dtype="<f8").tobytes()
        self._append(b"".join([json.dumps(head).encode(), b"\n", figures, *codes]))
        self.spans.append((start, stop))

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """First point and rows of each finished block."""
        for payload in self._frames():
            line, _, data = payload.partition(b"\n")
            head = json.loads(line)
            if "header" in head:
                continue
            n, width = head["stop"] - head["start"], head["width"]
            figures = np.frombuffer(data, dtype="<f8", count=n * width).reshape(n, width)
            words: dict[str, list[str | None]] = {}
            at = 8 * n * width
            for name, texts in head["texts"].items():
                words[name] = [texts[i] for i in np.frombuffer(data, dtype="<i4", count=n, offset=at).tolist()]
                at += 4 * n
            yield head["start"], Block(figures=figures, words=words)
        self._file.seek(0, os.SEEK_END)

    def remove(self) -> None:
        """Delete the file, once a table holds what is in it."""
        self.path.unlink(missing_ok=True)


def gaps(spans: list[tuple[int, int]], points: int) -> list[tuple[int, int]]:
    """What is missing between finished blocks, of 0..``points``."""
    missing, at = [], 0
    for start, stop in sorted(spans):
        if start > at:
            missing.append((at, start))
        at = max(at, stop)
    return [*missing, (at, points)] if at < points else missing


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as the files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
