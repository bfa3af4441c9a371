"""An ingest run announces the weight it needs, so that other runs leave room for the next one."""

import redis

from pipeline_assets_tests.fixtures.platform import Platform


def test_ingest_announces_all_its_weight(platform: Platform) -> None:
    """An ingest run announces all the weight that it spends.

    The candles alone are not enough: a 15m run left 900 weight for 900 symbols, and the last symbol
    waited a minute.
    """
    for _ in range(2):
        result = platform.ingest("1m")
    [event] = result.asset_materializations_for_node("raw_candles_1m")
    spent = event.metadata["weight spent"].value
    client = redis.Redis.from_url(platform.settings.redis.url, decode_responses=True)
    [key] = client.keys("weight:*:expected")
    [announced] = [said.split(":")[0] for said in client.hgetall(key).values()]
    assert int(announced) >= spent > len(platform.settings.symbols)
