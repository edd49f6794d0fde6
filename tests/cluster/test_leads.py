"""The bound for how early something may expire (R26)."""

import datetime

import pytest

from leads import JUMP_US, Leads

S = 1_000_000


def line(time_us, shard, role, epoch, ahead_us):
    stamp = datetime.datetime.fromtimestamp(time_us / S, datetime.timezone.utc).isoformat(timespec="microseconds")
    return (f"{stamp.replace('+00:00', 'Z')} level=info daemon=shardd event=role shard={shard} role={role} epoch={epoch} index=7 "
            f"ahead_us={ahead_us}\n")


def leads(*nodes):
    return Leads(["".join(line(*words) for words in node) for node in nodes], offset_us=0)


def test_nothing_is_early_under_one_leader():
    known = leads([(1 * S, 0, "starting", 1, 0), (5 * S, 0, "starting", 2, 700_000)])
    assert known.early_us(0, 2 * S, 2 * S, 4 * S) == 0
    assert known.early_us(0, 6 * S, 6 * S, 9 * S) == 0
    assert known.early_us(1, 2 * S, 2 * S, 9 * S) == 0


def test_the_next_epoch_may_be_further_ahead():
    known = leads([(1 * S, 0, "starting", 1, 0), (9 * S, 0, "starting", 3, 900_000)],
                  [(5 * S, 0, "starting", 2, 700_000), (5 * S + 9, 0, "leader", 2, 700_000)])
    assert known.early_us(0, 2 * S, 2 * S, 6 * S) == 700_000
    assert known.early_us(0, 2 * S, 2 * S, 20 * S) == 900_000
    assert known.early_us(0, 7 * S, 7 * S, 20 * S) == 200_000 + 2 * S // 8  # some of it was given back
    assert known.early_us(0, 4 * S, 10 * S, 20 * S) == 900_000  # whoever has executed it


def test_the_end_of_a_leader_is_not_told():
    known = leads([(1 * S, 0, "starting", 1, 500_000), (5 * S, 0, "follower", 2, 0)])
    assert known.early_us(0, 2 * S, 2 * S, 9 * S) == 0


def test_nobody_may_be_further_ahead_than_what_there_was():
    leads([(1 * S, 0, "starting", 1, JUMP_US), (2 * S, 1, "starting", 1, 2 * JUMP_US)])
    with pytest.raises(AssertionError, match="further ahead"):
        leads([(1 * S, 0, "starting", 1, JUMP_US), (2 * S, 1, "starting", 1, 2 * JUMP_US + 1)])
