"""A look at the records of trading over a real S3 server: daily objects, what is reported, and kills."""

import asyncio
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.stored_objects import StoredObject
from pipeline_assets.trading import record_news
from pipeline_assets.trading.decision_store import LakeDecisions, TraderStateError, read_decisions
from pipeline_assets.trading.decisions import Intent, MinuteDecisions, MinuteIntents
from pipeline_assets.trading.record_cursor import RecordCursor
from pipeline_assets.trading.record_news import RecordNews, look
from pipeline_assets.trading.record_objects import Kind, merge_records, object_key, read_records
from pipeline_assets.trading.trader_store import LakeTraderStore
from pipeline_assets_tests.fixtures.counting_s3 import KINDS, CountsRequests
from pipeline_assets_tests.fixtures.damage import flip_bit
from pipeline_assets_tests.fixtures.faulty_s3 import faulty_s3
from pipeline_assets_tests.fixtures.judge import FakeJudge, decider
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.s3 import S3Bucket, passed_check
from pipeline_assets_tests.trading.paper_world import Deaths, KilledError
from pipeline_assets_tests.trading.record_bench import MortalStore, copied, decide
from pipeline_assets_tests.trading.test_record_copy import DAY as TRADED

LATENESS = timedelta(hours=1)
DECIDED = MIDNIGHT.date()
OBJECTS = {
    (Kind.DECISIONS, DECIDED),
    (Kind.INTENTS, DECIDED),
    (Kind.ORDERS, TRADED),
    (Kind.FILLS, TRADED),
    (Kind.FUNDING, TRADED),
}


class Looker:
    """Looks with the cursor of the look before, as the sensor does."""

    def __init__(self, store: ObjectStore) -> None:
        self.store, self.cursor = store, RecordCursor()

    def look(self) -> RecordNews:
        """Look once; the cursor stays where the look fails."""
        news = look(self.store, self.cursor, LATENESS)
        self.cursor = RecordCursor.from_text(news.cursor.to_text())
        return news


@pytest.fixture
def looker(s3_bucket: S3Bucket, tmp_path: Path) -> Looker:
    """Provide a lake with the documents of three minutes and of an account, and no look at it yet."""
    store = ObjectStore(s3_bucket.settings())
    decide(store, 3)
    asyncio.run(copied(tmp_path, store))
    return Looker(store)


def bodies(store: ObjectStore) -> dict[Kind, bytes | None]:
    """Return the days' objects."""
    return {kind: store.get(object_key(kind, day)) for kind, day in OBJECTS}


def test_objects_hold_every_record(looker: Looker) -> None:
    """Decisions on the lake are those of the documents; the account is reported as it stands."""
    news = looker.look()
    assert set(news.days) == OBJECTS
    rows = read_records(looker.store, Kind.DECISIONS, DECIDED)
    decided = read_decisions(looker.store, DECIDED)
    assert sorted(rows["id"]) == sorted(each.id for each in decided)
    reasons = rows.select("verdict", "reason").unique().sort("verdict").rows()
    assert reasons == [("accept", ""), ("decline", "position_held")]
    assert rows["open_time"].to_list() == sorted(each.candidate.open_time for each in decided)
    intents = read_records(looker.store, Kind.INTENTS, DECIDED)
    assert intents["order_id"].to_list() == ["o-0", "o-1", "o-2"]
    assert news.accounts["paper"].summary.positions == {"BTCUSDT": 20_000_000}


def test_second_look_reports_nothing(looker: Looker) -> None:
    """Nothing is read or written again; a new document is read alone."""
    first = looker.look()
    before = bodies(looker.store)
    again = looker.look()
    assert (first.documents > 0, again.documents, again.days, again.accounts) == (True, 0, {}, {})
    assert bodies(looker.store) == before
    decide(looker.store, 1, first=3)
    third = looker.look()
    assert (third.documents, set(third.days)) == (
        2,
        {(Kind.DECISIONS, DECIDED), (Kind.INTENTS, DECIDED)},
    )


def test_killed_look_leaves_same_objects(looker: Looker, s3_bucket: S3Bucket) -> None:
    """The process dies before or after each write: the next look makes the same bytes and reports all."""
    expected = looker.look()
    whole = bodies(looker.store)
    keys = [object_key(kind, day) for kind, day in OBJECTS]
    for at in range(1, len(OBJECTS) + 1):
        for after in (False, True):
            looker.store.delete(keys)
            deaths = Deaths(at, after)
            killed = Looker(MortalStore(s3_bucket.settings(), deaths))
            with pytest.raises(KilledError):
                killed.look()
            killed.store = looker.store
            news = killed.look()
            assert bodies(looker.store) == whole
            assert (set(news.days), news.accounts) == (OBJECTS, expected.accounts)


def test_lost_cursor_changes_no_object(looker: Looker) -> None:
    """Every document is read again, and no object is written."""
    looker.look()
    deaths = Deaths(at=1)
    settings = looker.store._settings
    again = look(MortalStore(settings, deaths), RecordCursor(), LATENESS)
    assert set(again.days) == OBJECTS
    assert deaths.count == 0


def test_late_decision_is_found(looker: Looker) -> None:
    """A document about an earlier minute comes after later minutes were read, and moved the listing on."""
    decide(looker.store, 1, first=59)
    looker.look()
    decide(looker.store, 1, first=4)
    news = looker.look()
    assert (Kind.DECISIONS, DECIDED) in news.days
    assert read_records(looker.store, Kind.DECISIONS, DECIDED).height == 10


class AgedStore(ObjectStore):
    """A store on which each document was written at its minute."""

    def objects(self, prefix: str, start_after: str | None = None) -> Iterator[StoredObject]:
        for each in super().objects(prefix, start_after):
            yield replace(each, modified=record_news._minute_of(prefix, each.key))


def test_listing_moves_on(looker: Looker, s3_bucket: S3Bucket) -> None:
    """The next listing begins some time before the newest document that was there for a while."""
    looker.store = AgedStore(s3_bucket.settings())
    decide(looker.store, 3, first=200)
    looker.look()
    mark = looker.cursor.marks["decisions/1m/"]
    assert mark.newest == f"decisions/1m/{MIDNIGHT + timedelta(minutes=200):%Y%m%d/%H%M}.json"
    first = record_news._first_key("decisions/1m/", mark, LATENESS)
    assert first == f"decisions/1m/{MIDNIGHT + timedelta(minutes=140):%Y%m%d/%H%M}"


def test_rewritten_intents_replace_the_row(looker: Looker) -> None:
    """A trader that died repeats its minute: its newest intents count."""
    looker.look()
    rows = read_records(looker.store, Kind.INTENTS, DECIDED)
    first = rows["decision_id"][0]
    skipped = Intent(decision_id=first, action="open", outcome="skipped", reason="stale")
    trader = LakeTraderStore(looker.store, "paper")
    trader.note_intents(to_minute(MIDNIGHT), MinuteIntents(intents=(skipped,)))
    assert set(looker.look().days) == {(Kind.INTENTS, DECIDED)}
    rows = read_records(looker.store, Kind.INTENTS, DECIDED)
    assert rows["reason"].to_list() == ["stale", "", ""]


def test_older_row_replaces_nothing(looker: Looker) -> None:
    """Documents may come in any order: the newest record counts, and a later copy of the journal."""
    looker.look()
    held, *_ = read_records(looker.store, Kind.ORDERS, TRADED).to_dicts()
    older = held | {"status": "unknown", "sequence": held["sequence"] - 1}
    copied_anew = older | {"copy_begun": held["copy_begun"] + timedelta(minutes=1)}
    for row, expected in ((older, held), (copied_anew, copied_anew), (held, copied_anew)):
        merge_records(looker.store, Kind.ORDERS, TRADED, [row])
        assert read_records(looker.store, Kind.ORDERS, TRADED).to_dicts()[0] == expected


def test_backlog_is_read_in_looks(looker: Looker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look reads a bounded number of documents; the same objects follow."""
    looker.look()
    whole = bodies(looker.store)
    looker.store.delete([object_key(kind, day) for kind, day in OBJECTS])
    monkeypatch.setattr(record_news, "MOST", 1)
    looker.cursor = RecordCursor()
    waiting = [looker.look().waiting for _ in range(3)]
    assert waiting == [5, 2, 0]
    assert bodies(looker.store) == whole


def test_damaged_document_is_left_out(
    looker: Looker, s3_bucket: S3Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    """The others go on; the repaired document is read."""
    key = next(each.key for each in looker.store.objects("decisions/1m/"))
    reply = s3_bucket.client.get_object(Bucket=s3_bucket.name, Key=key)
    body = reply["Body"].read()
    s3_bucket.client.put_object(
        Bucket=s3_bucket.name, Key=key, Body=flip_bit(body, 9), Metadata=reply["Metadata"]
    )
    looker.look()
    assert key in caplog.text
    assert read_records(looker.store, Kind.DECISIONS, DECIDED).height == 4
    looker.store.put(key, body)
    looker.look()
    assert read_records(looker.store, Kind.DECISIONS, DECIDED).height == 6


@pytest.mark.parametrize(
    "key", ["decisions/1m/20261120/2359.json", "accounts/20261120/235900-a-1.json"]
)
def test_unreadable_document_is_named(looker: Looker, key: str) -> None:
    """A document of a newer release stops the look, so that its rows are not passed over."""
    looker.store.put(key, json.dumps({"decisions": [{"schema_version": 9}]}).encode())
    with pytest.raises(TraderStateError, match=key):
        looker.look()


def test_damaged_object_harms_no_other(looker: Looker) -> None:
    """The damaged object is named at each look and left alone; the other days go on."""
    key = object_key(Kind.FILLS, TRADED)
    looker.store.put(key, b"PAR1 and no more")
    first, second = looker.look(), looker.look()
    damaged = (Kind.FILLS, TRADED)
    assert set(first.days) == OBJECTS - {damaged}
    assert (first.changed, second.changed) == ([damaged], [])
    for news in (first, second):
        assert list(news.damaged) == [damaged]
        assert key in news.damaged[damaged]
        assert "Remove it" in news.damaged[damaged]
    assert looker.store.get(key) == b"PAR1 and no more"


def test_removed_object_is_made_again(looker: Looker) -> None:
    """Once the damaged object is removed, its documents are read again, also those of the meantime."""
    looker.look()
    expected = bodies(looker.store)
    key = object_key(Kind.DECISIONS, DECIDED)
    looker.store.put(key, b"PAR1 and no more")
    decide(looker.store, 1, first=3)
    assert list(looker.look().damaged) == [(Kind.DECISIONS, DECIDED)]
    looker.store.delete([key])
    news = looker.look()
    assert (news.changed, dict(news.damaged)) == ([(Kind.DECISIONS, DECIDED)], {})
    rows = read_records(looker.store, Kind.DECISIONS, DECIDED)
    assert sorted(rows["id"]) == sorted(each.id for each in read_decisions(looker.store, DECIDED))
    assert rows.height == 8
    assert bodies(looker.store)[Kind.FILLS] == expected[Kind.FILLS]
    assert looker.look().documents == 0


def test_object_has_what_models_said(looker: Looker) -> None:
    """Rows of the inference service carry the model's figures; others have none."""
    (each,) = candidates(start=MIDNIGHT + timedelta(minutes=9))
    lake = LakeDecisions(looker.store)
    lake.fix(to_minute(each.open_time), MinuteDecisions(decisions=()))
    decider(lake, FakeJudge(), to_milliseconds(each.open_time) + 70_000).decide([each])
    looker.look()
    *others, row = read_records(looker.store, Kind.DECISIONS, DECIDED).to_dicts()
    assert (row["model"], row["probability"], row["expected_value"]) == ("m-1", 0.6, 0.01)
    assert json.loads(row["reasons"]) == [{"input": "f15_return", "value": None, "effect": 0.2}]
    assert {(each["model"], each["probability"], each["reasons"]) for each in others} == {
        (None, None, None)
    }


def test_object_of_earlier_release_is_read(looker: Looker) -> None:
    """A day's object without the model's columns is read and grows; its rows have no values there."""
    looker.look()
    rows = read_records(looker.store, Kind.DECISIONS, DECIDED)
    body = io.BytesIO()
    rows.drop("model", "probability", "expected_value", "reasons").write_parquet(body)
    looker.store.put(object_key(Kind.DECISIONS, DECIDED), body.getvalue())
    assert read_records(looker.store, Kind.DECISIONS, DECIDED).equals(rows)
    decide(looker.store, 1, first=3)
    looker.look()
    assert read_records(looker.store, Kind.DECISIONS, DECIDED).height == rows.height + 2


@contextmanager
def _counted(bucket: S3Bucket) -> Iterator[tuple[ObjectStore, CountsRequests]]:
    counts = CountsRequests()
    with faulty_s3(bucket.endpoint, counts) as proxy:
        passed_check(proxy.endpoint, bucket.name)
        yield ObjectStore(bucket.settings(endpoint_url=proxy.endpoint)), counts


def test_idle_look_sends_three_listings(looker: Looker, s3_bucket: S3Bucket) -> None:
    """A stopped trader and gateway cost three requests a minute."""
    looker.look()
    with _counted(s3_bucket) as (looker.store, counts):
        looker.look()
        taken = counts.taken()
    assert {kind: taken[kind] for kind in KINDS if taken[kind]} == {"LIST": 3}
