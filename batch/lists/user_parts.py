"""A few users, ready to be scored: their own rows and a recommender whose items were laid out once for all users."""

from __future__ import annotations

from dataclasses import dataclass

from batch.job.inputs import Asked
from batch.job.job import Job
from sdk.base.types import Int64s
from sdk.bundles.bundle import Bundle
from sdk.features.seen import Seen
from sdk.scoring.again import Again
from sdk.scoring.exploration import Exploration
from sdk.scoring.recommender import Recommender


@dataclass(frozen=True, slots=True, eq=False)
class UserPart:
    """Users by the rows of a table that has at least them.

    Attributes:
        bundle: with that table.
        recommender: what scores them.
        seen: what each row must not be given.
        again: what each row has and may be given again; None where nothing rises.
    """

    bundle: Bundle
    recommender: Recommender
    seen: Seen
    again: Again | None

    @classmethod
    def of(
        cls, job: Job, asked: Asked, bundle: Bundle, some: Int64s | None = None, like: Recommender | None = None
    ) -> UserPart:
        """What a job needs of a bundle's users.

        Args:
            job: the job.
            asked: what it asks for, of any of the bundle's users.
            bundle: one that has these users.
            some: (N,) int64, the only rows of its table that count; None: all do.
            like: made for other users of the same bundle and job; None lays the items out.

        Raises:
            BundleError: a file is damaged.
            ScoreError: the model holds a NaN or an infinity.
        """
        mine = asked.of(bundle)
        if like is None:
            recommender = bundle.recommender(
                job.model,
                threads=job.threads,
                memory_mib=job.memory_mib,
                device=job.device,
                users=some,
                items_per_tile=job.items_per_tile,
            )
            recommender = recommender if asked.rules is None else recommender.under(asked.rules)
            recommender.keep(asked.allowed)
        else:
            recommender = like.for_users(bundle.encoded_users, bundle.list_form(bundle.ranker_of_lists(job.model)))
        if job.explore is not None:
            recommender.exploration = Exploration.of(
                job.explore, job.explore_share, bundle.info.config.training.seed, job.run_date,
                bundle.encoded_users.ids, bundle.encoded_items.ids,
            )  # fmt: skip
        nothing = Seen.nothing(len(bundle.encoded_users))
        seen = mine.barred(nothing if job.include_seen else mine.seen(bundle, some))
        may_come = job.include_seen or asked.again is not None
        return cls(bundle, recommender, seen, bundle.coming_again(users=some, items=asked.again) if may_come else None)
