"""Settings as keyword arguments, and what the C library calls them. Times are in seconds."""

from __future__ import annotations

import os
import pathlib
from typing import Dict, Mapping, Optional, Union

Path = Union[str, "os.PathLike[str]"]
Value = Union[None, bool, int, float, str, Path]

_SECONDS = {
    "linger": "linger_ms",
    "delivery_timeout": "delivery_timeout_ms",
    "connect_timeout": "connect_timeout_ms",
    "transaction_timeout": "transaction_timeout_ms",
    "auto_commit": "auto_commit_ms",
    "fetch_wait": "fetch_wait_ms",
    "rebalance_timeout": "rebalance_timeout_ms",
}
#: Files whose text the library takes.
_FILES = {"ca": "ca_pem", "certificate": "certificate_pem", "private_key": "private_key_pem"}


def settings(bootstrap: str, given: Mapping[str, Value]) -> Dict[str, str]:
    """What the library is told; ``None`` means its default."""
    told = {"bootstrap": bootstrap}
    for name, value in given.items():
        if value is None:
            continue
        if name in _SECONDS:
            told[_SECONDS[name]] = str(max(0, round(float(str(value)) * 1000)))
        elif name in _FILES:
            told[_FILES[name]] = pathlib.Path(str(value)).read_text(encoding="utf-8")
        elif isinstance(value, bool):
            told[name] = "true" if value else "false"
        else:
            told[name] = str(value)
    return told


def login(user: Optional[str], password: Optional[str], mechanism: Optional[str]) -> Dict[str, Value]:
    """Without a user nobody logs in, whatever the mechanism."""
    return {} if user is None else {"user": user, "password": password, "mechanism": mechanism}
