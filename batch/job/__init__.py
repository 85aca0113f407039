"""What is asked for: the job, its inputs, and what of them decides a night's bytes.

Uses `store` and `gates`. Begin with `job.Job`.
"""

from batch.job.job import Job

__all__ = ["Job"]
