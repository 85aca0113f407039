"""The nightly job: every user's and every title's list, exact, to Parquet."""
