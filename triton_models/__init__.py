"""The source of every served model: unpack, call one function of `sdk.serving`, pack. Copied into each repository."""
