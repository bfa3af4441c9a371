"""The cursor of the looks at the records of trading: what was read and reported. The look is
record_news.py.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from pipeline_assets.resources.document_versions import cursor_content


@dataclass(frozen=True)
class Mark:
    """The documents of a prefix that were read.

    Attributes:
        newest: the greatest key among those; listings begin some time before it, for late documents.
        modified: when the store wrote the newest of them, ISO 8601; empty before the first.
        known: short digests of those written shortly before `modified`.
    """

    newest: str = ""
    modified: str = ""
    known: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RecordCursor:
    """The documents that were read, and the reports that were made.

    Attributes:
        marks: by prefix.
        reported: by object and account, a digest of its newest report.
        damaged: the keys of damaged objects of days. Rows of these days are left out; once the object is
            removed, the documents from its day on are read again.
    """

    marks: Mapping[str, Mark] = field(default_factory=dict)
    reported: Mapping[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    @classmethod
    def from_text(cls, text: str | None) -> Self:
        """Return the cursor of a text, or one that knows nothing.

        Raises:
            NewerVersionError: a newer release wrote the cursor.
        """
        held = cursor_content(text, "trading_records")
        marks = {prefix: Mark(**each) for prefix, each in held.get("marks", {}).items()}
        return cls(marks, held.get("reported", {}), held.get("damaged", []))

    def to_text(self) -> str:
        """Return the cursor as text."""
        return json.dumps(asdict(self))
