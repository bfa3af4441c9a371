"""Reasons why the whole venue takes no entries: a ban, a key without rights, maintenance, silence. Stops and
closes are still tried. Reasons that concern one symbol are in foreign.py.
"""

from pipeline_assets.trading.messages import QuestionFailed, Trouble, VenueTrouble
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


def trust_key(work: Work, by: str) -> None:
    """End the trouble of a key after a person resumed, and tell of it; the next refusal begins it anew."""
    if work.state.troubles.pop(Trouble.KEY, None):
        _ended(work)
        work.alarm(f"The key is trusted again: {by} resumed the gateway.")


def answered(work: Work, asked_at: int) -> None:
    """Take an answer to a reading: silence is over, and so is trouble without a known end."""
    core, state = work.core, work.state
    if core.silence_alarmed:
        core.silence_alarmed = False
        state.troubles.pop(Trouble.SILENT, None)
        _ended(work)
        work.alarm("The venue answers again; entries are accepted.")
    for kind, event in list(state.troubles.items()):
        if event.kind is not Trouble.KEY and not event.until and asked_at > core.trouble_at[kind]:
            _end(work, event)


def question_failed(work: Work, event: QuestionFailed) -> None:
    """Note a question that failed, unless a trouble explains it that a person knows of.

    Trouble that begins is reported later than the first failures, and the last ones come after its end.
    """
    core = work.core
    ended = core.trouble_ended and not work.is_due(core.trouble_ended, core.timing.silence)
    if not work.state.troubles and not ended:
        core.failures.setdefault(event.text, work.now)


def check(work: Work) -> None:
    """End trouble whose end has come; tell a person of a silence that begins, and of failed questions."""
    core, state = work.core, work.state
    for event in list(state.troubles.values()):
        if event.until and work.now >= event.until:
            _end(work, event)
    # Another trouble explains the silence.
    if is_silent(work) and not state.troubles:
        core.silence_alarmed = True
        text = f"The venue has not answered for {core.timing.silence // 1000} s."
        state.troubles[Trouble.SILENT] = VenueTrouble(Trouble.SILENT, 0, text)
        work.alarm(f"{text} Entries are refused until it answers; stops stay where they are.")
    if state.troubles:
        core.failures.clear()
    if core.unanswered_since:
        # Whether the venue answers at all is not known: a silence of it may explain the failures.
        return
    for text, at in core.failures.items():
        if work.is_due(at, core.timing.silence + core.timing.repeat):
            core.failures.clear()
            work.alarm(
                f"The venue answers, but not this question; the log has all of these: {text}"
            )
            return


def is_silent(work: Work) -> bool:
    """Return whether readings of the positions have gone unanswered for too long."""
    since = work.core.unanswered_since
    return bool(since) and work.is_due(since, work.core.timing.silence)


def _end(work: Work, event: VenueTrouble) -> None:
    del work.state.troubles[event.kind]
    _ended(work)
    work.alarm(f"The venue's trouble is over: {event.text}")


def _ended(work: Work) -> None:
    """Count a silence from the end of a trouble on: the questions of before were part of that."""
    core = work.core
    core.trouble_ended = work.now
    core.unanswered_since = core.unanswered_since and work.now
