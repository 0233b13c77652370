"""Bringing the files of a brick: its checksum lists first, then each file, compared with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeVar

from storage.checksums import read_checksums
from storage.errors import ChecksumMismatch, CorruptFile
from storage.fetch.remote_files import lists_all
from storage.fetch.report import FetchReport
from storage.fetch.transfer import Transfer

Key = TypeVar("Key")
Answer = TypeVar("Answer")


def in_threads(call: Callable[[Key], Answer], keys: Sequence[Key], threads: int) -> list[Answer]:
    """Return the answers in the order of the keys; the first fault stops what has not begun."""
    with ThreadPoolExecutor(threads, "brickyard-fetch") as pool:
        return list(pool.map(call, keys))


def bring_brick(transfer: Transfer, paths: Sequence[str], lists: Sequence[str]) -> FetchReport:
    """Stage the files of a brick and its checksum lists.

    Raises
    ------
    ChecksumMismatch
        When a file is, twice, not the listed one.
    """
    report, listed = _bring_lists(transfer, lists)
    brought, wrong = _bring_files(transfer, paths, listed)
    report += brought
    if wrong:  # a damaged transfer, or a brick replaced between its list and its files
        again, listed = _bring_lists(transfer, lists)
        brought, still_wrong = _bring_files(transfer, list(wrong), listed)
        if still_wrong:
            raise next(iter(still_wrong.values()))
        retries = again.retries + len(wrong)
        report += replace(again, files=(), absent=(), present_bytes=0, retries=retries) + brought
    return report


def read_lists(transfer: Transfer, paths: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 by file name of lists, read until they speak of a whole brick."""
    listed: dict[str, str] = {}
    for path in paths:
        for found in transfer.bring(path).files:
            listed |= read_checksums(found)
        if lists_all(listed):
            break
    return listed


def _bring_lists(transfer: Transfer, paths: Sequence[str]) -> tuple[FetchReport, Mapping[str, str]]:
    """Stage checksum lists; also return the SHA-256 by file name."""
    if not transfer.config.verify:
        return FetchReport(), {}
    report = _sum(in_threads(transfer.bring, paths, transfer.config.connections))
    listed: dict[str, str] = {}
    for path in report.files:
        try:
            listed |= read_checksums(path)
        except CorruptFile:
            # Not kept: it would be taken for whole at the next fetch.
            transfer.staging.forget(path.relative_to(transfer.staging.root).as_posix())
            raise
    return report, listed


def _bring_files(
    transfer: Transfer, paths: Sequence[str], listed: Mapping[str, str]
) -> tuple[FetchReport, dict[str, ChecksumMismatch]]:
    """Stage files; also return those that are not what the lists say."""

    def bring(path: str) -> FetchReport | ChecksumMismatch:
        try:
            return transfer.bring(path, listed.get(PurePosixPath(path).name, ""))
        except ChecksumMismatch as error:
            return error

    results = dict(zip(paths, in_threads(bring, paths, transfer.config.connections), strict=True))
    wrong = {path: got for path, got in results.items() if isinstance(got, ChecksumMismatch)}
    return _sum(got for got in results.values() if isinstance(got, FetchReport)), wrong


def _sum(reports: Iterable[FetchReport]) -> FetchReport:
    return sum(reports, FetchReport())
