"""Whether the copy of the model that was searched in its place was believed by it."""

from collections.abc import Iterator

import numpy as np

from sparring.evaluation.rows import ATTACK
from sparring.evaluation.study import Study
from sparring.evaluation.verdict import Check


def believed(study: Study) -> Iterator[Check]:
    """What a copy takes for adversarial and the model does not is no success, but it may end a search too early."""
    if study.searched is study.model:
        return
    rows, standing = study.rows().only(ATTACK), study.tally().ids[study.tally().standing]
    misled = np.intersect1d(rows["id"][rows["refused"] > 0], standing)
    yield Check(
        "the copy that was searched is like the model",
        len(misled) <= max(1.0, 0.02 * len(standing)),
        f"the model refused {int(rows['refused'].sum())} points that its faster copy took for adversarial; of "
        f"{len(standing)} samples that stand, {len(misled)} had such points",
        "the copy misled the search there: run again with speed='off', in another folder",
    )
