"""Whether the process that was meant still runs, where another may have got its number since. What becomes
of what a dead process left is for who asks.
"""


def is_alive(pid: int, at: float) -> bool:
    """Whether the process that had this pid `at` that time (UNIX seconds) still runs; a zombie does not.

    `at` is when it was created, or any time later at which it ran: who has the pid now and was
    created after that is another one.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        same = process.create_time() - at < 1.0
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
