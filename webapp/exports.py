"""Histories as files: JSON lines for programs, Markdown and HTML for people.

A file is written page by page as it is read, up to the entry that was the last when it
was asked for. What agents read and say is not trusted: the HTML is one page that needs
nothing else, runs nothing, and has every text escaped; in Markdown every text is a code
block by its indent, so that no line of it can pass for one of ours; and neither holds a
character that is not seen and changes how others are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from textwrap import indent
from typing import Any, Final

from broker import entries
from broker.database import Database, Row
from broker.json import clean

VERSION: Final = 1
PAGE: Final = 200
# Nothing but the page's own style; also where it is opened from a disk.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

_SPEAKERS: Final = {
    "user_message": "User",
    "wake": "News",
    "assistant_message": "Assistant",
    "reasoning": "Reasoning",
    "tool_call": "Call",
    "tool_result": "Result",
    "error": "Error",
    "context_compaction": "Compaction",
    "system_prompt": "System prompt",
    "tools_config": "Tools",
}
# What is data or machinery is shown letter by letter, in HTML.
_VERBATIM: Final = (
    "tool_call",
    "tool_result",
    "tools_config",
    "system_prompt",
    "error",
)
# Controls of terminals (C0 but tab and newline, DEL, C1), of the direction of writing,
# and of lines; they are shown by their code.
_UNSEEN: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        *(0x061C, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
    if chr(code) not in "\t\n"
}
# What makes lines of Markdown a code block.
_INDENT: Final = "    "
# What begins something in a line of Markdown.
_MARKS: Final = re.compile(r"([\\`*<>&!\[\]])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a history is written: a head, each entry, a tail."""

    media_type: str
    suffix: str
    head: Callable[[Row, str], str]
    entry: Callable[[Row], str]
    tail: str = ""


def export(database: Database, agent: Row, form: Format) -> Iterator[str]:
    """Yield the file, piece by piece."""
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    yield form.head(agent, at)
    for page in _pages(database, agent):
        yield "".join(form.entry(entry) for entry in page)
    yield form.tail


def _pages(database: Database, agent: Row) -> Iterator[list[Row]]:
    row = database.read_one(
        "SELECT last_entry_id FROM agents WHERE id = ?", agent["id"]
    )
    last_id, after = (row["last_entry_id"] if row else None) or 0, 0
    while after < last_id:
        found = entries.list_after(database, agent["id"], after=after, limit=PAGE)
        yield [entry for entry in found if entry["id"] <= last_id]
        after = found[-1]["id"] if found else last_id


# --- JSON lines -----------------------------------------------------------------------


def _json_head(agent: Row, at: str) -> str:
    head = {
        "type": "session",
        "version": VERSION,
        "agent_id": agent["id"],
        "exported_at": at,
    }
    if agent["forked_from"]:
        head["forked_from"] = agent["forked_from"]
    return _json_line(head)


def _json_line(value: Row) -> str:
    return json.dumps(value) + "\n"


# --- Markdown -------------------------------------------------------------------------


def _markdown_head(agent: Row, at: str) -> str:
    return f"# {agent['id']}\n\n{_about(agent, at)}\n"


def _markdown_entry(entry: Row) -> str:
    title = _MARKS.sub(r"\\\1", _title(entry))
    return f"\n## {title}\n\n{indent(_text(entry), _INDENT)}\n".rstrip() + "\n"


# --- HTML -----------------------------------------------------------------------------

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto;
  padding: 0 1em; color: #222; background: #fff; }
article { margin: 1em 0; padding: .5em 1em; border-left: 3px solid #bbb; }
article.user_message { border-color: #2a6; background: #f4faf6; }
article.assistant_message { border-color: #26c; }
article.error { border-color: #c33; }
article.reasoning { color: #666; font-style: italic; }
h2 { font-size: .85em; font-weight: 600; color: #666; margin: 0 0 .3em; }
p, pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
pre { font: 13px/1.4 ui-monospace, monospace; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818; }
  article.user_message { background: #1c2620; }
}
"""


def _html_head(agent: Row, at: str) -> str:
    policy = POLICY.removesuffix("; sandbox")  # a meta element may not sandbox
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(agent['id'])}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(agent['id'])}</h1>\n<p>{escape(_about(agent, at))}</p>\n"
    )


def _html_entry(entry: Row) -> str:
    kind = escape(entry["type"])
    element = "pre" if entry["type"] in _VERBATIM else "p"
    return (
        f'<article class="{kind}" id="entry-{entry["id"]}">\n'
        f"<h2>{escape(_title(entry))}</h2>\n"
        f"<{element}>{escape(_text(entry))}</{element}>\n</article>\n"
    )


# --- What both show -------------------------------------------------------------------


def _about(agent: Row, at: str) -> str:
    fork = agent["forked_from"]
    begun = f" A fork of {fork['agent_id']} at #{fork['entry_id']}." if fork else ""
    return f"Exported {at}.{begun}"


def _title(entry: Row) -> str:
    who = _SPEAKERS.get(entry["type"], str(entry["type"]))
    if entry["tool_name"]:
        who = f"{who}: {entry['tool_name']}"
    if entry["status"] in ("failed", "uncertain", "interrupted"):
        who = f"{who} ({entry['status']})"
    return f"{_seen(_line(who))} · #{entry['id']} · {entry['created_at']}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _seen(text: str) -> str:
    """Make a text storable, and show of it what is not seen."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return clean(lines).translate(_UNSEEN)


def _text(entry: Row) -> str:
    """What an entry says; a compaction says its summary, in place of why it was."""
    summary = (entry["data"] or {}).get("summary")
    said = summary or "\n\n".join(_block(block) for block in entry["content"])
    return _seen(str(said))


def _block(block: dict[str, Any]) -> str:
    if block["type"] == "text":
        return str(block["text"])
    if block["type"] == "json":
        return json.dumps(block["json"], ensure_ascii=False, indent=2)
    named = block.get("name") or block.get("artifact") or ""
    return f"[{block['type']} {named}]".replace(" ]", "]")


FORMATS: Final = {
    "jsonl": Format(
        media_type="application/x-ndjson",
        suffix=".jsonl",
        head=_json_head,
        entry=_json_line,
    ),
    "markdown": Format(
        media_type="text/markdown",
        suffix=".md",
        head=_markdown_head,
        entry=_markdown_entry,
    ),
    "html": Format(
        media_type="text/html",
        suffix=".html",
        head=_html_head,
        entry=_html_entry,
        tail="</body>\n</html>\n",
    ),
}
