"""Reading, checking and splitting ratings and titles."""
