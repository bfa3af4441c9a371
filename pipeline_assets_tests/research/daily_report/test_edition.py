"""The page, the PDF and the stored report, of made-up parts with hostile names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline_assets.errors import InputError
from pipeline_assets.market.partition_keys import FIRST_DAY
from pipeline_assets.research.daily_report.alert import send_summary
from pipeline_assets.research.daily_report.chart_axes import short_number
from pipeline_assets.research.daily_report.content import Content, content_of
from pipeline_assets.research.daily_report.page import page_of
from pipeline_assets.research.daily_report.parts import DailyReport, Edition, EditionKind
from pipeline_assets.research.daily_report.pdf import pdf_of
from pipeline_assets.research.daily_report.pdf_text import PdfText
from pipeline_assets.research.daily_report.stored_edition import StoredEdition, keep_report
from pipeline_assets.research.daily_report.summary import read_summary
from pipeline_assets.resources.alerts import AlertError, Alerts
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import AlertsSettings
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.fixtures.webhook import Webhook
from pipeline_assets_tests.research.daily_report.made_report import (
    CHINESE,
    DAY,
    HOSTILE,
    MADE_AT,
    empty_report,
    later,
    made_report,
)

DAGSTER = "https://dagster.example.com"


class Page(HTMLParser):
    """The elements, identifiers and addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.identifiers: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            if name == "id":
                self.identifiers.append(str(value))
            elif name == "href" and tag == "a":
                self.links.append(str(value))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def report() -> DailyReport:
    return made_report()


@pytest.fixture(scope="module")
def small(report: DailyReport) -> DailyReport:
    """Provide a report without the section of many charts."""
    return replace(report, sections=report.sections[1:])


@pytest.fixture(scope="module")
def content(report: DailyReport) -> Content:
    return content_of(report, DAGSTER)


@pytest.fixture(scope="module")
def html(content: Content) -> str:
    return page_of(content)


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def test_editions_have_names() -> None:
    """A week begins on Monday and counts as ISO 8601 does; a month has its own length."""
    day, week, month = (Edition.of(kind, DAY) for kind in ("day", "week", "month"))
    assert [each.name() for each in (day, week, month)] == ["20261128", "2026-W48", "202611"]
    assert (week.start, week.end) == (
        datetime(2026, 11, 23, tzinfo=UTC),
        datetime(2026, 11, 30, tzinfo=UTC),
    )
    assert len(month.days()) == 30
    assert Edition.of("week", date(2027, 1, 1)).name() == "2026-W53"
    assert week.title() == "Week 2026-W48: 23 November to 29 November 2026"


@pytest.mark.parametrize("kind", ["day", "week", "month"])
def test_impossible_spans_are_refused(kind: EditionKind) -> None:
    """No report is about a time before the exchange opened, or one that has not begun."""
    for day in (date(1, 1, 1), date(2019, 8, 31)):
        with pytest.raises(InputError, match="the exchange opened on 2019-09-08"):
            Edition.of(kind, day).check(DAY)
    with pytest.raises(InputError, match="lies in the future: today is 2026-11-28"):
        Edition.of(kind, DAY + timedelta(days=31)).check(DAY)
    for day in (FIRST_DAY, DAY):
        Edition.of(kind, day).check(DAY)


def test_hostile_names_are_text(html: str) -> None:
    """A script in a symbol's and a strategy's name is shown, in charts too, and is no element."""
    page = Page(html)
    assert "script" not in page.elements
    shown = "".join(page.text)
    assert f"{HOSTILE}USDT" in shown
    assert f"x{HOSTILE}" in shown
    assert "$A_{b}$USDT" in shown
    assert CHINESE in shown


@pytest.mark.parametrize("name", [HOSTILE, "<b>bold", "&lt;", '"/><a href="x'])
def test_pdf_shows_markup_as_text(small: DailyReport, name: str) -> None:
    """A name with markup is the text of a paragraph and of a link, and ends neither."""
    text = PdfText()
    assert text.paragraph(name, "headline").getPlainText() == name
    assert text.marked(text.link(name, f"#{name}"), "faint").getPlainText() == name
    hostile = replace(small.sections[0], title=name, headline=name, charts=())
    assert pdf_of(content_of(replace(small, sections=(hostile,)), None)).startswith(b"%PDF-")


def test_page_fetches_nothing(html: str) -> None:
    """Every address is a link to follow, a place on the page, or a picture within it."""
    assert "default-src 'none'" in html
    page = Page(html)
    assert {each for each in page.links if not each.startswith(("#", DAGSTER))} == set()
    assert not re.search(r"\b(src|srcset|xlink:href)=\"(?!data:)(?!#)", html)
    assert "@import" not in html
    assert "url(http" not in html


def test_every_figure_leads_to_source(report: DailyReport, html: str) -> None:
    """Figures, charts and tables name their source; the asset has its address, the query its text."""
    page = Page(html)
    places = set(page.identifiers)
    assert len(places) == len(page.identifiers)
    assert {each[1:] for each in page.links if each.startswith("#")} <= places
    parts = [
        part for each in report.sections for part in (*each.figures, *each.charts, *each.tables)
    ]
    assert sum(each.startswith("#source-") for each in page.links) == len(parts)
    assert f"{DAGSTER}/assets/candidate_outcomes?partition=2026-11-28" in page.links
    assert "WHERE x &lt; 5" in html


def test_unknown_dagster_names_asset(small: DailyReport) -> None:
    html = page_of(content_of(small, None))
    assert "<code>candidate_outcomes 2026-11-28</code>" in html
    assert "↗" not in html


def test_same_report_same_bytes(small: DailyReport) -> None:
    once, again = content_of(small, DAGSTER), content_of(small, DAGSTER)
    assert page_of(again) == page_of(once)
    assert pdf_of(again) == pdf_of(once)


def test_pdf_embeds_chinese(content: Content) -> None:
    """The font of Chinese names is in the file, and a name with markup does not end the document."""
    body = pdf_of(content)
    assert body.startswith(b"%PDF-")
    assert re.search(rb"/FontName /\w+\+DroidSansFallback", body)
    text = PdfText()
    assert text.escaped(CHINESE).startswith('<font name="DroidSansFallback">币</font>')
    assert text.escaped("<b>&\x00\u0f40") == "&lt;b&gt;&amp;�U+0F40"


def test_empty_day_says_so() -> None:
    content = content_of(empty_report(), None)
    assert "No candle of this day is stored." in page_of(content)
    assert pdf_of(content).startswith(b"%PDF-")
    assert content.cover() is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.2, "−0.2"),
        (1234.0, "1,234"),
        (12_345.0, "12.3k"),
        (9e8, "900M"),
        (-2.5e9, "−2.5bn"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text


def test_repeated_report_changes_nothing(store: ObjectStore, small: DailyReport) -> None:
    """The same figures an hour later leave the stored report; other figures replace it."""
    first = keep_report(store, small, None)
    assert first.changed
    before = {each.key: each.etag for each in store.objects("reports/")}
    assert set(before) == {f"reports/20261128.{each}" for each in ("html", "json", "pdf")}
    again = keep_report(store, later(small), None)
    assert not again.changed
    assert again.summary.made_at == MADE_AT
    assert {each.key: each.etag for each in store.objects("reports/")} == before
    fewer = replace(later(small), sections=small.sections[2:])
    assert keep_report(store, fewer, None).changed
    found = read_summary(store, small.edition)
    assert found is not None
    assert [each.key for each in found.sections] == ["trading"]


def test_lost_page_is_written_again(store: ObjectStore, s3_bucket: S3Bucket) -> None:
    """A page that was removed, or damaged, comes back with the next run."""
    report = empty_report()
    keep_report(store, report, None)
    key = "reports/20261128.html"
    page = store.get(key)
    store.delete([key])
    assert keep_report(store, report, None).changed
    assert store.get(key) == page
    s3_bucket.client.put_object(
        Bucket=s3_bucket.name, Key=key, Body=b"<html", Metadata={"sha256": "0" * 64}
    )
    assert keep_report(store, report, None).changed
    assert store.get(key) == page


@pytest.fixture
def kept(store: ObjectStore, small: DailyReport) -> StoredEdition:
    """Provide a stored report with a chart."""
    return keep_report(store, small, None)


def test_summary_goes_out_once(store: ObjectStore, webhook: Webhook, kept: StoredEdition) -> None:
    """A repeated run sends nothing; a webhook that refuses is tried again by the next run."""
    edition = Edition.of("day", DAY)
    alerts = Alerts(AlertsSettings(webhook_url=webhook.url))

    def send(now: datetime = MADE_AT) -> bool:
        return send_summary(alerts, store, kept, edition, now, DAGSTER)

    webhook.status = 500
    with pytest.raises(AlertError, match="HTTP 500"):
        send()
    webhook.status = 200
    assert [send(), send()] == [True, False]
    [alert] = webhook.received
    assert alert["text"].startswith("Daily report: Saturday 28 November 2026\n")
    assert "bollinger_breakout was right in 58 %" in alert["text"]
    assert f"{DAGSTER}/assets/daily_report?partition=2026-11-28" in alert["text"]
    assert alert["report"].endswith("/reports/20261128.html")
    assert alert["picture"].startswith("data:image/png;base64,")


def test_mark_follows_sent_summary(
    store: ObjectStore, webhook: Webhook, kept: StoredEdition
) -> None:
    """A run that dies before the webhook leaves no mark, so that the next run sends the summary."""

    class Watched(Alerts):
        def send(self, alert: Mapping[str, Any]) -> None:
            assert not list(store.objects("reports/sent/"))
            super().send(alert)

    alerts = Watched(AlertsSettings(webhook_url=webhook.url))
    assert send_summary(alerts, store, kept, Edition.of("day", DAY), MADE_AT, None)
    assert [each.key for each in store.objects("reports/sent/")] == ["reports/sent/20261128"]
    assert webhook.received[0]["id"] == "report-20261128"


def test_old_summary_is_no_news(store: ObjectStore, webhook: Webhook, kept: StoredEdition) -> None:
    """Neither a backfill of old days nor a day that is not over sends a summary."""
    edition = Edition.of("day", DAY)
    alerts = Alerts(AlertsSettings(webhook_url=webhook.url))
    for now in (MADE_AT + timedelta(days=4), edition.end - timedelta(hours=1)):
        assert not send_summary(alerts, store, kept, edition, now, None)
    assert not send_summary(Alerts(AlertsSettings()), store, kept, edition, MADE_AT, None)
    assert webhook.received == []


def test_hostile_names_reach_webhook(
    store: ObjectStore, webhook: Webhook, small: DailyReport
) -> None:
    """A strategy's name is a part of the sentence that people read, whatever it contains."""
    named = replace(small.sections[-1], headline=f"{HOSTILE} lost.", empty=None)
    stored = keep_report(store, replace(small, sections=(named,)), None)
    alerts = Alerts(AlertsSettings(webhook_url=webhook.url))
    assert send_summary(alerts, store, stored, Edition.of("day", DAY), MADE_AT, None)
    [alert] = webhook.received
    assert alert["headlines"] == [f"{named.title}: {HOSTILE} lost."]
    # The text is in Slack's format, whose entities are those of HTML.
    assert "<" not in alert["text"]
    assert alert["headlines"][0] in unescape(alert["text"]).splitlines()
