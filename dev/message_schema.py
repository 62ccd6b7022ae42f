"""The names in WhatsApp's message object, from the newest schema that a package brings.

``python -m dev.message_schema`` asks npm for ``@wppconnect/wa-proto`` (Apache-2.0; it follows WhatsApp Web week by
week) and writes names alone into ``tests/unit/message_schema.json``. The package itself is 22 MB of generated code that
nothing here runs, so it is no dependency: a test compares our table with this file, and `git diff` shows what is new.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from dev.stack import PROJECT

PACKAGE: Final = "@wppconnect/wa-proto"
TARGET: Final = PROJECT / "tests" / "unit" / "message_schema.json"
_ENUMS: Final = {
    "WebMessageInfo.StubType": "stubs",
    "Message.ProtocolMessage.Type": "protocol_types",
    "MessageAssociation.AssociationType": "associations",
    "ContextInfo.PairedMediaType": "paired_media",
}
_FIELD: Final = re.compile(r"(?:(?:optional|repeated|required) )?([\w.]+) (\w+) = (\d+)")


def read_schema(proto: str) -> dict[str, Any]:
    """The fields of ``Message`` with their types, its oneofs, and the enums that we read, from a ``.proto`` text."""
    found: dict[str, Any] = {"fields": {}, "oneofs": {}, **{name: {} for name in _ENUMS.values()}}
    path: list[tuple[str, str]] = []
    for line in (each.strip() for each in proto.splitlines()):
        if opened := re.match(r"(message|enum|oneof) (\w+) \{", line):
            path.append((opened[1], opened[2]))
        elif line.startswith("}"):
            path.pop()
        elif path:
            _read_line(line, path, found)
    found["oneofs"] = {name: sorted(set(members)) for name, members in sorted(found["oneofs"].items())}
    return found


def _read_line(line: str, path: list[tuple[str, str]], found: dict[str, Any]) -> None:
    kind, place = path[-1][0], ".".join(name for _, name in path)
    if kind == "enum":
        words = next((words for name, words in _ENUMS.items() if place.endswith(name)), None)
        if words and (value := re.match(r"(\w+) = (\d+);", line)):
            found[words][value[1]] = int(value[2])
        return
    field = _FIELD.match(line)
    if field is None:
        return
    if place == "Message":
        found["fields"][field[2]] = field[1]
    if kind == "oneof" and path[0][1] in ("Message", "HydratedTemplateButton", "TemplateButton"):
        found["oneofs"].setdefault(path[-1][1], []).append(field[2])


def main() -> int:
    """Fetch the newest version and write its names."""
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["npm", "pack", PACKAGE, "--json", "--pack-destination", folder],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        [version] = json.loads(packed.stdout)
        [archive] = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as files:
            proto = files.extractfile("package/WAProto.proto")
            if proto is None:
                raise FileNotFoundError("WAProto.proto is not in the package")
            schema = read_schema(proto.read().decode())
    source = {
        "package": PACKAGE,
        "version": version["version"],
        "licence": "Apache-2.0",
        "integrity": version["integrity"],
    }
    TARGET.write_text(json.dumps({"source": source, **schema}, indent=1) + "\n", "utf-8")
    print(f"{TARGET.relative_to(PROJECT)}: {len(schema['fields'])} fields of {version['version']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
