"""The documents that the analysis writes and reads, as types: every field with its unit and meaning."""
