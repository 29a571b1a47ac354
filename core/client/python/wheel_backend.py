"""Makes the wheel: the package with the C library in it (PEP 427, PEP 517). Nothing but Python's own library.

The library is the one that ``MILLPOND_LIBRARY`` names, else cargo builds it for small devices. The tag
tells the newest glibc that the library asks for, by the versions of the symbols in it. Never changes a file
of the repository.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import Any, Dict, List, Optional, Tuple

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
LIBRARY = "libmillpond_c.so"
#: ELF's numbers of machines, as wheels call them.
MACHINES = {62: "x86_64", 183: "aarch64", 40: "armv7l"}


def version() -> str:
    """The workspace's."""
    manifest = (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8")
    found = re.search(r'^\[workspace\.package\]\nversion = "([^"]+)"', manifest, re.MULTILINE)
    if found is None:
        raise SystemExit("Cargo.toml does not tell the version")
    return found.group(1)


def library() -> pathlib.Path:
    """Where the C library is."""
    named = os.environ.get("MILLPOND_LIBRARY")
    if named:
        return pathlib.Path(named)
    words = ["cargo", "build", "--locked", "--profile", "firmware", "-p", "millpond-client-c"]
    # Standard output is pip's.
    subprocess.run(words, cwd=REPOSITORY, check=True, stdout=sys.stderr)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    return target / "firmware" / LIBRARY


def stripped(path: pathlib.Path, into: str) -> bytes:
    """The library without what only a debugger reads, where there is a tool for that."""
    tool = shutil.which("strip")
    if tool is None:
        return path.read_bytes()
    copy = pathlib.Path(into) / LIBRARY
    done = subprocess.run([tool, "--strip-unneeded", "-o", str(copy), str(path)], check=False)
    # One for another machine: its strip is another one.
    return copy.read_bytes() if done.returncode == 0 else path.read_bytes()


def platform(content: bytes) -> str:
    """On which systems the library runs, as a wheel's tag."""
    if content[:4] != b"\x7fELF":
        raise SystemExit(f"{LIBRARY} is not a library for Linux")
    number = int.from_bytes(content[18:20], "little")
    machine = MACHINES.get(number)
    if machine is None:
        raise SystemExit(f"{LIBRARY} is for a machine (ELF's number {number}) that no wheel has a name for")
    newest = max((int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", content)), default=None)
    # Nothing of glibc: musl's.
    return f"musllinux_1_2_{machine}" if newest is None else f"manylinux_2_{newest}_{machine}"


def metadata() -> str:
    return (
        f"Metadata-Version: 2.1\nName: millpond\nVersion: {version()}\n"
        "Summary: Produce and consume over QUIC, TLS or TCP, with Millpond or any Kafka broker\n"
        "License: Apache-2.0\nRequires-Python: >=3.9\n"
    )


def contents() -> Tuple[str, List[Tuple[str, bytes]]]:
    """The platform's tag, and the files of the wheel but for the list of them."""
    with tempfile.TemporaryDirectory() as directory:
        built = stripped(library(), directory)
    tag = platform(built)
    files = [(f"millpond/{path.name}", path.read_bytes()) for path in sorted((HERE / "millpond").glob("*.py"))]
    files += [("millpond/py.typed", b""), (f"millpond/{LIBRARY}", built)]
    info = f"millpond-{version()}.dist-info"
    wheel = f"Wheel-Version: 1.0\nGenerator: millpond\nRoot-Is-Purelib: false\nTag: py3-none-{tag}\n"
    files += [(f"{info}/METADATA", metadata().encode()), (f"{info}/WHEEL", wheel.encode())]
    return tag, files


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[Dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """PEP 517: writes the wheel and tells its name."""
    tag, files = contents()
    listed = []
    for name, content in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        listed.append(f"{name},sha256={digest},{len(content)}\n")
    record = f"millpond-{version()}.dist-info/RECORD"
    files.append((record, ("".join(listed) + f"{record},,\n").encode()))
    name = f"millpond-{version()}-py3-none-{tag}.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files:
            # The same files make the same wheel, whenever that is.
            wheel.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return name


def build_sdist(sdist_directory: str, config_settings: Optional[Dict[str, Any]] = None) -> str:
    """PEP 517: there is none, the library needs the whole workspace."""
    raise NotImplementedError("build the wheel in a clone of the repository")
