"""Imported once by the process that every killed one is a copy of, so that none of them imports anything again."""

import export.repository  # noqa: F401
import sdk.data.download
import sdk.training.pipeline  # noqa: F401
from sdk.features.workflows import nvtabular

nvtabular()
