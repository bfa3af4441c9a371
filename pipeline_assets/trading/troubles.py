"""Reasons why the whole venue takes no entries: a ban, a key without rights, maintenance, silence. Stops and
closes are still tried. Reasons that concern one symbol are in foreign.py.
"""

from pipeline_assets.trading.messages import Trouble, VenueTrouble
from pipeline_assets.trading.order_types import Mode
from pipeline_assets.trading.work import Work


def reported(work: Work, event: VenueTrouble) -> None:
    """Refuse entries from here on, and tell a person once. A key without rights halts the gateway."""
    state = work.state
    known = state.troubles.get(event.kind)
    state.troubles[event.kind] = event
    work.core.trouble_at[event.kind] = work.now
    if known:
        return
    if event.kind is Trouble.KEY and state.mode is not Mode.HALTED:
        work.set_mode(Mode.HALTED, event.text, "venue")
    ends = {
        Trouble.KEY: "The gateway is halted; resume it once the key is right again.",
        Trouble.BAN: "Entries are refused until the ban ends.",
        Trouble.MAINTENANCE: "Entries are refused until the venue answers again.",
    }
    work.alarm(f"The venue takes no entries: {event.text} {ends[event.kind]}")


def answered(work: Work, asked_at: int) -> None:
    """Take an answer to a reading: silence is over, and so is trouble without a known end."""
    core, state = work.core, work.state
    if core.silence_alarmed:
        core.silence_alarmed = False
        work.alarm("The venue answers again; entries are accepted.")
    for kind, event in list(state.troubles.items()):
        if event.kind is not Trouble.KEY and not event.until and asked_at > core.trouble_at[kind]:
            _end(work, event)


def check(work: Work) -> None:
    """End trouble whose end has come, and tell a person of a silence that begins."""
    for event in list(work.state.troubles.values()):
        if event.until and work.now >= event.until:
            _end(work, event)
    if is_silent(work) and not work.core.silence_alarmed:
        work.core.silence_alarmed = True
        work.alarm(
            f"The venue has not answered for {work.core.timing.silence // 1000} s. Entries are refused until "
            "it answers; stops stay where they are."
        )


def is_silent(work: Work) -> bool:
    """Return whether readings of the positions have gone unanswered for too long."""
    since = work.core.unanswered_since
    return bool(since) and work.is_due(since, work.core.timing.silence)


def _end(work: Work, event: VenueTrouble) -> None:
    del work.state.troubles[event.kind]
    work.alarm(f"The venue's trouble is over: {event.text}")
